"""What every operator in the table promises; exceptions are flags that it declares."""

from collections import Counter
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapter import scale, take, to_delta
from lorafuse_jax.fusion import OPERATORS
from lorafuse_jax.types import LoraPair, UserError
from tests.fusion.members import assert_same, random_members, random_weights, repeat

FLOAT32 = 2e-5  # a few roundings of 2**-24 and an SVD
BFLOAT16 = 2e-2  # input and output are rounded to 2**-9
MEMBERS = 3

MODULE = "layers/mlp/up_proj"
TRACES = Counter()

every_operator = pytest.mark.parametrize("op", OPERATORS.values(), ids=OPERATORS.keys())


def declaring(promise: str):
    ops = {name: op for name, op in OPERATORS.items() if getattr(op, promise)}
    return pytest.mark.parametrize("op", ops.values(), ids=ops.keys())


@pytest.fixture
def rng():
    return np.random.default_rng(17)


@cache
def compiled(op):
    """Shared by the tests: what is the same for all of them is compiled once."""

    def fuse(stacked, weights):
        TRACES[op.name] += 1
        return op(stacked, weights=weights)

    return jax.jit(fuse)


@cache
def compiled_gradient(op):
    """Of a scalar that all entries of the result matter for."""

    def energy(weights, stacked):
        deltas = to_delta(op(stacked, weights=weights))
        return sum(jnp.sum(update[0] ** 2) for update in deltas.values())

    return jax.jit(jax.grad(energy))


@every_operator
def test_operator_result_has_one_update_a_module_and_layer(op, rng):
    shapes = {"layers/self_attn/q_proj": (9, 8), "layers/mlp/up_proj": (7, 12)}
    fused = jax.eval_shape(lambda s: to_delta(op(s)), random_members(rng, shapes=shapes))
    for module, shape in shapes.items():
        assert fused[module].delta.shape == (2, *shape)


@declaring("fixed_point")
def test_operator_of_identical_members_returns_that_member(op, rng):
    stacked = repeat(random_members(rng), MEMBERS)
    fused = compiled(op)(stacked, random_weights(rng))
    assert_same(fused, take(stacked, 0), FLOAT32)


@declaring("identity_for_one")
def test_operator_of_one_member_returns_it(op, rng):
    stacked = random_members(rng, members=1)
    assert_same(op(stacked), take(stacked, 0), FLOAT32)


@declaring("permutation_invariant")
def test_operator_ignores_the_order_of_members(op, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    order = jnp.array([2, 0, 1])
    shuffled = jax.tree.map(lambda leaf: leaf[order], stacked)
    assert_same(compiled(op)(shuffled, weights[order]), compiled(op)(stacked, weights), FLOAT32)


@every_operator
def test_operator_is_invariant_under_a_change_of_basis_inside_the_rank(op, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    turned = {}
    for module, pair in stacked.items():
        basis = np.eye(2) + 0.4 * rng.normal(size=(MEMBERS, 2, 2, 2))  # [S, L, R, R]
        turned[module] = LoraPair(
            jnp.asarray(pair.lora_a @ basis, jnp.float32),
            jnp.asarray(np.linalg.inv(basis) @ np.asarray(pair.lora_b), jnp.float32),
        )
    assert not np.allclose(turned[module].lora_a, stacked[module].lora_a)
    assert_same(compiled(op)(turned, weights), compiled(op)(stacked, weights), 10 * FLOAT32)


@every_operator
def test_operator_scales_with_the_sum_of_weights(op, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    expected = scale(compiled(op)(stacked, weights), 1.7)
    assert_same(compiled(op)(stacked, 1.7 * weights), expected, FLOAT32)


@every_operator
def test_operator_treats_layers_alone_by_default(op, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    other = jax.tree.map(lambda leaf: leaf.at[:, 0].set(leaf[:, 0] * 3), stacked)
    before = to_delta(compiled(op)(stacked, weights))[MODULE][0]
    after = to_delta(compiled(op)(other, weights))[MODULE][0]
    np.testing.assert_array_equal(before[1], after[1])
    assert not np.allclose(before[0], after[0])


@every_operator
def test_operator_compiled_equals_eager(op, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    eager = op(stacked, weights=weights)
    assert_same(compiled(op)(stacked, weights), eager, FLOAT32)


@every_operator
def test_operator_is_traced_once_for_inputs_of_one_shape(op, rng):
    compiled(op)(random_members(rng), random_weights(rng))
    before = TRACES[op.name]
    compiled(op)(random_members(rng), random_weights(rng))
    assert TRACES[op.name] == before > 0


@every_operator
def test_operator_can_be_swept_over_weights_in_one_vmap(op, rng):
    stacked = random_members(rng)
    sweep = jnp.stack([random_weights(rng) for _ in range(4)])
    swept = jax.jit(jax.vmap(lambda w: op(stacked, weights=w)))(sweep)
    for number, weights in enumerate(sweep):
        one = jax.tree.map(lambda leaf, number=number: leaf[number], swept)
        assert_same(one, compiled(op)(stacked, weights), FLOAT32)


@every_operator
@pytest.mark.parametrize("kind", ["random", "identical", "zero", "one zero"])
def test_operator_has_finite_gradients_in_weights(op, kind, rng):
    stacked = random_members(rng)
    if kind == "identical":
        stacked = repeat(stacked, MEMBERS)
    if kind == "zero":
        stacked = scale(stacked, 0.0)
    if kind == "one zero":
        stacked = jax.tree.map(lambda leaf: leaf.at[1].set(0), stacked)
    gradient = compiled_gradient(op)(random_weights(rng), stacked)
    assert np.isfinite(gradient).all()
    assert (kind == "zero") == bool((gradient == 0).all())


@every_operator
def test_operator_keeps_the_dtype_of_half_precision_members(op, rng):
    stacked = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), random_members(rng))
    fused = compiled(op)(stacked, random_weights(rng))
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(fused))
    same = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), stacked)
    exact = compiled(op)(same, random_weights(rng))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(exact))


@every_operator
def test_operator_fuses_half_precision_members_as_exactly_as_it_can_round(op, rng):
    stacked = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), random_members(rng))
    same = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), stacked)
    weights = random_weights(rng)
    assert_same(compiled(op)(stacked, weights), compiled(op)(same, weights), BFLOAT16)


@every_operator
def test_operator_with_another_number_of_weights_says_how_many(op, rng):
    with pytest.raises(UserError, match=r"weights have shape \[2\], there are 3 members"):
        op(random_members(rng), weights=jnp.ones(2))


@every_operator
def test_operator_with_unknown_setting_lists_its_own(op, rng):
    with pytest.raises(UserError, match=f"{op.name} has no hyper-parameter 'quantil'") as error:
        op(random_members(rng), quantil=0.9)
    assert all(str(hyper) in str(error.value) for hyper in op.hyperparameters.values())


@every_operator
def test_operator_of_dense_members_says_to_compress(op, rng):
    with pytest.raises(UserError, match=r"up_proj: .*dense deltas.*compress"):
        op(to_delta(random_members(rng)))


@every_operator
def test_operator_of_one_adapter_that_is_not_stacked_says_so(op, rng):
    with pytest.raises(UserError, match="four axes"):
        op(take(random_members(rng), 0))
