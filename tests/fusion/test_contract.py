"""What every operator in the table promises; exceptions are flags that it declares."""

from collections import Counter
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapter import num_members, pad_rank, scale, stack, take, to_delta
from lorafuse_jax.fusion import OPERATORS
from lorafuse_jax.types import LoraPair, UserError
from tests.fusion.members import (
    assert_same,
    dense,
    random_members,
    random_statistic,
    random_weights,
    repeat,
)

FLOAT32 = 2e-5  # a few roundings of 2**-24 and an SVD
BFLOAT16 = 2e-2  # input and output are rounded to 2**-9
MEMBERS = 3

MODULE = "layers/mlp/up_proj"
TRACES = Counter()
KEY = jax.random.key(3)

every_operator = pytest.mark.parametrize("op", OPERATORS.values(), ids=OPERATORS.keys())


def declaring(promise: str):
    ops = {name: op for name, op in OPERATORS.items() if getattr(op, promise)}
    return pytest.mark.parametrize("op", ops.values(), ids=ops.keys())


@pytest.fixture
def rng():
    return np.random.default_rng(17)


def members_for(op, rng, **changes):
    """As many as it takes."""
    return random_members(rng, **{"members": min(MEMBERS, op.max_members or MEMBERS)} | changes)


def weights_for(stacked, rng):
    return random_weights(rng, num_members(stacked))


def extra_for(op, stacked):
    """A key and a statistic for operators that take one."""
    extra = {"key": KEY} if op.stochastic else {}
    if op.statistic is not None:
        extra["statistic"] = random_statistic(op.statistic, stacked)
    return extra


@cache
def compiled(op):
    """Shared by the tests: what is the same for all of them is compiled once."""

    def fuse(stacked, weights, extra):
        TRACES[op.name] += 1
        return op(stacked, weights=weights, **extra)

    jitted = jax.jit(fuse)

    def fused(stacked, weights, extra=None):
        return jitted(stacked, weights, extra_for(op, stacked) if extra is None else extra)

    return fused


@cache
def compiled_gradient(op):
    """Of a scalar that all entries of the result matter for."""

    def energy(weights, stacked, extra):
        deltas = to_delta(op(stacked, weights=weights, **extra))
        return sum(jnp.sum(update[0] ** 2) for update in deltas.values())

    jitted = jax.jit(jax.grad(energy))
    return lambda weights, stacked: jitted(weights, stacked, extra_for(op, stacked))


@every_operator
def test_operator_result_has_one_update_a_module_and_layer(op, rng):
    shapes = {"layers/self_attn/q_proj": (9, 8), "layers/mlp/up_proj": (7, 12)}
    stacked = members_for(op, rng, shapes=shapes)
    extra = extra_for(op, stacked)
    fused = jax.eval_shape(lambda s: to_delta(op(s, **extra)), stacked)
    for module, shape in shapes.items():
        assert fused[module].delta.shape == (2, *shape)


@declaring("fixed_point")
def test_operator_of_identical_members_returns_that_member(op, rng):
    stacked = members_for(op, rng)
    stacked = repeat(stacked, num_members(stacked))
    fused = compiled(op)(stacked, weights_for(stacked, rng))
    assert_same(fused, take(stacked, 0), FLOAT32)


@declaring("identity_for_one")
def test_operator_of_one_member_returns_it(op, rng):
    stacked = random_members(rng, members=1)
    assert_same(op(stacked, **extra_for(op, stacked)), take(stacked, 0), FLOAT32)


@declaring("permutation_invariant")
def test_operator_ignores_the_order_of_members(op, rng):
    stacked = members_for(op, rng)
    weights = weights_for(stacked, rng)
    order = jnp.roll(jnp.arange(num_members(stacked)), 1)
    shuffled = jax.tree.map(lambda leaf: leaf[order], stacked)
    extra = extra_for(op, stacked)
    if "statistic" in extra:
        extra["statistic"] = {m: values[order] for m, values in extra["statistic"].items()}
    fused = compiled(op)(shuffled, weights[order], extra)
    assert_same(fused, compiled(op)(stacked, weights), FLOAT32)


@declaring("basis_invariant")
def test_operator_is_invariant_under_a_change_of_basis_inside_the_rank(op, rng):
    stacked = members_for(op, rng)
    weights = weights_for(stacked, rng)
    turned = {}
    for module, pair in stacked.items():
        basis = np.eye(2) + 0.4 * rng.normal(size=(num_members(stacked), 2, 2, 2))  # [S, L, R, R]
        turned[module] = LoraPair(
            jnp.asarray(pair.lora_a @ basis, jnp.float32),
            jnp.asarray(np.linalg.inv(basis) @ np.asarray(pair.lora_b), jnp.float32),
        )
    assert not np.allclose(turned[module].lora_a, stacked[module].lora_a)
    assert_same(compiled(op)(turned, weights), compiled(op)(stacked, weights), 10 * FLOAT32)


@declaring("sign_equivariant")
def test_operator_follows_a_change_of_sign_of_rows_and_columns(op, rng):
    stacked = members_for(op, rng)
    weights = weights_for(stacked, rng)
    rows, columns = (jnp.asarray(rng.choice([-1.0, 1.0], n), jnp.float32) for n in (9, 12))
    if op.statistic is not None and "Gram" in op.statistic:
        rows = jnp.ones(9)  # its inputs would change sign too
    flipped = {
        module: LoraPair(rows[:, None] * pair.lora_a, pair.lora_b * columns)
        for module, pair in stacked.items()
    }
    expected = dense(compiled(op)(stacked, weights))
    expected = {m: np.asarray(rows)[:, None] * d * np.asarray(columns) for m, d in expected.items()}
    assert_same(compiled(op)(flipped, weights), expected, 10 * FLOAT32)


@declaring("homogeneous")
def test_operator_scales_with_the_sum_of_weights(op, rng):
    stacked = members_for(op, rng)
    weights = weights_for(stacked, rng)
    expected = scale(compiled(op)(stacked, weights), 1.7)
    assert_same(compiled(op)(stacked, 1.7 * weights), expected, FLOAT32)


@declaring("layerwise")
def test_operator_treats_layers_alone_by_default(op, rng):
    stacked = members_for(op, rng)
    weights = weights_for(stacked, rng)
    other = jax.tree.map(lambda leaf: leaf.at[:, 0].set(leaf[:, 0] * 3), stacked)
    before = to_delta(compiled(op)(stacked, weights))[MODULE][0]
    after = to_delta(compiled(op)(other, weights))[MODULE][0]
    np.testing.assert_array_equal(before[1], after[1])
    assert not np.allclose(before[0], after[0])


@every_operator
def test_operator_compiled_equals_eager(op, rng):
    stacked = members_for(op, rng)
    weights = weights_for(stacked, rng)
    eager = op(stacked, weights=weights, **extra_for(op, stacked))
    assert_same(compiled(op)(stacked, weights), eager, FLOAT32)


@every_operator
def test_operator_is_traced_once_for_inputs_of_one_shape(op, rng):
    for _ in range(2):
        before = TRACES[op.name]
        stacked = members_for(op, rng)
        compiled(op)(stacked, weights_for(stacked, rng))
    assert TRACES[op.name] == before > 0


@every_operator
def test_operator_can_be_swept_over_weights_in_one_vmap(op, rng):
    stacked = members_for(op, rng)
    extra = extra_for(op, stacked)
    sweep = jnp.stack([weights_for(stacked, rng) for _ in range(4)])
    swept = jax.jit(jax.vmap(lambda w: op(stacked, weights=w, **extra)))(sweep)
    for number, weights in enumerate(sweep):
        one = jax.tree.map(lambda leaf, number=number: leaf[number], swept)
        assert_same(one, compiled(op)(stacked, weights), FLOAT32)


@declaring("basis_invariant")
def test_operator_fuses_members_of_different_rank_as_what_they_are(op, rng):
    """A member of rank 1 that is padded with zeros, or written with a direction given twice."""
    lower = take(random_members(rng, members=1, rank=1), 0)
    others = members_for(op, rng, rank=2)
    others = [take(others, member) for member in range(1, num_members(others))]
    twice = {
        module: LoraPair(
            jnp.repeat(pair.lora_a, 2, axis=-1), 0.5 * jnp.repeat(pair.lora_b, 2, axis=-2)
        )
        for module, pair in lower.items()
    }
    padded = stack([lower, *others])
    weights = weights_for(padded, rng)
    fused = compiled(op)(padded, weights)
    assert_same(fused, compiled(op)(stack([twice, *others]), weights), 10 * FLOAT32)


@declaring("numbers")
def test_operator_can_be_swept_over_its_numbers_in_one_vmap(op, rng):
    stacked = members_for(op, rng)
    numbers = op.numbers
    defaults = {name: op.hyperparameters[name].default for name in numbers}
    sweeps = {n: jnp.array([0.8, 1.0]) * (0.5 if d is None else d) for n, d in defaults.items()}
    fuse = lambda settings: op(stacked, **settings, **extra_for(op, stacked))  # noqa: E731
    swept = jax.jit(jax.vmap(fuse))(sweeps)
    for place in range(2):
        one = jax.tree.map(lambda leaf, place=place: leaf[place], swept)
        assert_same(one, fuse({n: float(values[place]) for n, values in sweeps.items()}), FLOAT32)


@declaring("stochastic")
def test_operator_gives_the_same_bits_for_the_same_key(op, rng):
    stacked = members_for(op, rng)
    weights = weights_for(stacked, rng)
    fuse = jax.jit(lambda key: op(stacked, weights=weights, key=key))
    first, again, other = (dense(fuse(jax.random.key(seed)))[MODULE] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) != op.needs_key


@every_operator
@pytest.mark.parametrize("kind", ["random", "identical", "zero", "one zero", "padded"])
def test_operator_has_finite_gradients_in_weights(op, kind, rng):
    stacked = members_for(op, rng)
    if kind == "identical":
        stacked = repeat(stacked, num_members(stacked))
    if kind == "zero":
        stacked = scale(stacked, 0.0)
    if kind == "one zero":
        stacked = jax.tree.map(lambda leaf: leaf.at[1].set(0), stacked)
    if kind == "padded":
        stacked = pad_rank(stacked, 4)
    gradient = compiled_gradient(op)(weights_for(stacked, rng), stacked)
    assert np.isfinite(gradient).all()
    assert (kind == "zero") == bool((gradient == 0).all())


@every_operator
def test_operator_keeps_the_dtype_of_half_precision_members(op, rng):
    stacked = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), members_for(op, rng))
    weights = weights_for(stacked, rng)
    fused = compiled(op)(stacked, weights)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(fused))
    same = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), stacked)
    exact = compiled(op)(same, weights)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(exact))


@every_operator
def test_operator_fuses_half_precision_members_as_exactly_as_it_can_round(op, rng):
    stacked = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), members_for(op, rng))
    same = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), stacked)
    weights = weights_for(stacked, rng)
    assert_same(compiled(op)(stacked, weights), compiled(op)(same, weights), BFLOAT16)


@every_operator
def test_operator_with_another_number_of_weights_says_how_many(op, rng):
    stacked = members_for(op, rng)
    members = num_members(stacked)
    with pytest.raises(UserError, match=rf"weights have shape \[4\], there are {members} members"):
        op(stacked, weights=jnp.ones(4), **extra_for(op, stacked))


@every_operator
def test_operator_with_unknown_setting_lists_its_own(op, rng):
    with pytest.raises(UserError, match=f"{op.name} has no hyper-parameter 'quantil'") as error:
        op(members_for(op, rng), quantil=0.9)
    assert all(str(hyper) in str(error.value) for hyper in op.hyperparameters.values())


@every_operator
def test_operator_of_dense_members_says_to_compress(op, rng):
    with pytest.raises(UserError, match=r"up_proj: .*dense deltas.*compress"):
        op(to_delta(members_for(op, rng)))


@every_operator
def test_operator_of_one_adapter_that_is_not_stacked_says_so(op, rng):
    with pytest.raises(UserError, match="four axes"):
        op(take(members_for(op, rng), 0))
