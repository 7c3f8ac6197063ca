"""The algebra of adapters against dense NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapter import (
    combine,
    compress,
    cosine,
    inner,
    norm,
    num_members,
    pad_rank,
    scale,
    squared_norm,
    stack,
    take,
    to_delta,
)
from lorafuse_jax.adapter_merge import merge_into
from lorafuse_jax.adapter_spectral import tall_qr
from lorafuse_jax.types import DenseDelta, LoraPair, UserError

FLOAT32 = 1e-5  # sums of a few hundred products rounded to 2**-24
SPECTRAL = 5e-5  # a QR and an SVD in single precision
Q, UP = "layers/self_attn/q_proj", "layers/mlp/up_proj"
SHAPES = {Q: (9, 8), UP: (7, 12)}
LAYERS = 2


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def random_adapter(rng, rank=3, modules=SHAPES) -> dict[str, Any]:
    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    return {
        module: LoraPair(draw(LAYERS, fan_in, rank), draw(LAYERS, rank, fan_out))
        for module, (fan_in, fan_out) in modules.items()
    }


def dense(adapter):
    return {
        module: np.asarray(update[0], np.float64) @ np.asarray(update[1], np.float64)
        if isinstance(update, LoraPair)
        else np.asarray(update.delta, np.float64)
        for module, update in adapter.items()
    }


def flat(adapter):
    return np.concatenate([dense(adapter)[module].ravel() for module in sorted(adapter)])


def test_stack_of_different_ranks_is_exact_and_take_gives_each_back(rng):
    adapters = [random_adapter(rng, rank) for rank in (3, 1, 2)]
    stacked = stack(adapters)
    assert num_members(stacked) == 3
    assert stacked[Q][0].shape == (3, LAYERS, 9, 3)
    for number, adapter in enumerate(adapters):
        np.testing.assert_array_equal(flat(take(stacked, number)), flat(adapter))


def test_stack_pads_each_module_to_its_own_largest_rank(rng):
    mixed = random_adapter(rng, 4, {Q: SHAPES[Q]}) | random_adapter(rng, 2, {UP: SHAPES[UP]})
    stacked = stack([mixed, random_adapter(rng, 1)])
    assert stacked[Q][0].shape[-1] == 4
    assert stacked[UP][0].shape[-1] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop(UP), f"member 1 lacks module {UP}"),
        (lambda a: a.update({"layers/x": a[Q]}), "member 1 has, member 0 has not, module layers/x"),
        (lambda a: a.update(to_delta({Q: a[Q]})), f"{Q}: member 1 is DenseDelta"),
        (lambda a: a.update({Q: a[UP]}), rf"{Q}: member 1 is \[L, I, O\] = \[2, 7, 12\]"),
    ],
)
def test_stack_of_unlike_members_names_member_and_module(change, message, rng):
    other = random_adapter(rng)
    change(other)
    with pytest.raises(UserError, match=message):
        stack([random_adapter(rng), other])


def test_stack_of_nothing_raises():
    with pytest.raises(UserError, match="nothing to stack"):
        stack([])


def test_members_of_a_tree_that_disagrees_or_is_not_stacked_raise(rng):
    stacked = stack([random_adapter(rng)] * 2)
    with pytest.raises(UserError, match=f"{UP}: lora_a has 1 members, the first module has 2"):
        num_members(stacked | {UP: jax.tree.map(lambda leaf: leaf[:1], stacked[UP])})
    with pytest.raises(UserError, match="four axes"):
        num_members(random_adapter(rng))
    with pytest.raises(UserError, match="empty"):
        num_members({})
    with pytest.raises(UserError, match="no member 2: the stacked adapter has 2"):
        take(stacked, 2)


def test_pad_rank_changes_no_update_and_refuses_to_shrink(rng):
    adapter = random_adapter(rng)
    padded = pad_rank(adapter, 5)
    assert padded[Q][-1].shape == (LAYERS, 5, 8)
    np.testing.assert_array_equal(flat(padded), flat(adapter))
    with pytest.raises(UserError, match="rank 3 cannot be padded to 2"):
        pad_rank(adapter, 2)


@pytest.mark.parametrize("kind", [lambda a: a, to_delta])
def test_combine_is_the_weighted_sum(kind, rng):
    members = [kind(random_adapter(rng)) for _ in range(3)]
    weights = np.array([0.5, -0.2, 1.1])
    total = combine(stack(members), jnp.asarray(weights, jnp.float32))
    expected = sum(w * flat(member) for w, member in zip(weights, members, strict=True))
    np.testing.assert_allclose(flat(total), expected, atol=FLOAT32 * np.abs(expected).max())
    if isinstance(total[Q], LoraPair):
        assert total[Q][0].shape[-1] == 3 * 3


def test_scale_and_to_delta_equal_their_definitions(rng):
    adapter = random_adapter(rng)
    np.testing.assert_allclose(flat(scale(adapter, -2.5)), -2.5 * flat(adapter), rtol=FLOAT32)
    delta = to_delta(adapter)
    assert all(isinstance(update, DenseDelta) for update in delta.values())
    np.testing.assert_allclose(flat(delta), flat(adapter), atol=FLOAT32 * 10)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), adapter)
    assert scale(half, jnp.asarray(2.0))[Q][-1].dtype == jnp.bfloat16


def test_norms_and_angles_from_factors_equal_the_dense_ones(rng):
    left, right = random_adapter(rng, 3), random_adapter(rng, 2)
    a, b = flat(left), flat(right)
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    np.testing.assert_allclose(inner(left, right), a @ b, atol=FLOAT32 * size)
    np.testing.assert_allclose(inner(left, to_delta(right)), a @ b, atol=FLOAT32 * size)
    np.testing.assert_allclose(squared_norm(left), a @ a, rtol=FLOAT32)
    np.testing.assert_allclose(norm(to_delta(left)), np.linalg.norm(a), rtol=FLOAT32)
    np.testing.assert_allclose(cosine(left, right), a @ b / size, atol=FLOAT32)
    np.testing.assert_allclose(cosine(left, scale(left, -3.0)), -1, rtol=FLOAT32)


def test_inner_of_adapters_of_different_modules_raises(rng):
    adapter = random_adapter(rng)
    with pytest.raises(UserError, match=f"only one of them has module {UP}"):
        inner(adapter, {Q: adapter[Q]})


@pytest.mark.parametrize("kind", [lambda a: a, to_delta])
@pytest.mark.parametrize("rank", [1, 2, 4, 20])
def test_compress_is_the_best_approximation_of_its_rank(kind, rank, rng):
    adapter = kind(random_adapter(rng, rank=4))
    small = compress(adapter, rank)
    for module, deltas in dense(adapter).items():
        assert small[module][0].shape[-1] <= rank
        for layer, delta in enumerate(deltas):
            u, s, vt = np.linalg.svd(delta)
            best = u[:, :rank][:, : len(s)] * s[:rank] @ vt[: min(rank, len(s))]
            error = np.abs(dense(small)[module][layer] - best).max()
            assert error < SPECTRAL * s[0]


def test_compress_shares_the_singular_values_between_the_factors(rng):
    small = compress(random_adapter(rng), 2)
    for pair in small.values():
        np.testing.assert_allclose(
            jnp.linalg.norm(pair[0], axis=-2), jnp.linalg.norm(pair[-1], axis=-1), rtol=1e-4
        )


def test_compress_below_rank_one_raises(rng):
    with pytest.raises(UserError, match="rank 0"):
        compress(random_adapter(rng), 0)


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (7, 7), (20, 5), (21, 5), (397, 6)])
def test_tall_qr_is_a_qr_for_all_shapes(rows, columns, rng):
    matrix = jnp.asarray(rng.normal(size=(rows, columns)), jnp.float32)
    orthonormal, core = jax.jit(tall_qr)(matrix)
    inside = min(rows, columns)
    assert orthonormal.shape == (rows, inside)
    assert core.shape == (inside, columns)
    np.testing.assert_allclose(orthonormal @ core, matrix, atol=SPECTRAL)
    np.testing.assert_allclose(orthonormal.T @ orthonormal, np.eye(inside), atol=SPECTRAL)


def test_tall_qr_of_a_matrix_without_full_rank_is_still_orthonormal(rng):
    thin = rng.normal(size=(100, 2))
    matrix = jnp.asarray(np.hstack([thin, thin, np.zeros((100, 2))]), jnp.float32)
    orthonormal, core = tall_qr(matrix)
    np.testing.assert_allclose(orthonormal @ core, matrix, atol=SPECTRAL)
    np.testing.assert_allclose(orthonormal.T @ orthonormal, np.eye(6), atol=SPECTRAL)


def model_params(dtype=jnp.float32) -> dict[str, Any]:
    q = jnp.ones((LAYERS, *SHAPES[Q]), dtype)
    up = jnp.ones((LAYERS, *SHAPES[UP]), dtype)
    layers = {"self_attn": {"q_proj": {"kernel": q}}, "mlp": {"up_proj": {"kernel": up}}}
    return {"layers": layers, "norm": {"scale": jnp.ones(4)}}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_merge_adds_the_delta_and_keeps_dtype_and_input(dtype, rng):
    adapter = random_adapter(rng, modules={Q: SHAPES[Q]})
    params = model_params(dtype)
    merged = merge_into(params, adapter)
    kernel = merged["layers"]["self_attn"]["q_proj"]["kernel"]
    assert kernel.dtype == dtype
    expected = jnp.asarray(1 + dense(adapter)[Q], dtype).astype(jnp.float32)
    np.testing.assert_allclose(kernel.astype(jnp.float32), expected, rtol=2**-7, atol=FLOAT32)
    np.testing.assert_array_equal(params["layers"]["self_attn"]["q_proj"]["kernel"], 1)
    untouched = merged["layers"]["mlp"]["up_proj"]["kernel"]
    assert untouched is params["layers"]["mlp"]["up_proj"]["kernel"]


@pytest.mark.parametrize(
    "module", ["layers/self_attn/q_prog", "layers/self_attn", "norm/scale", "q_proj", "layers/x/y"]
)
def test_merge_into_a_model_without_the_module_lists_near_ones(module, rng):
    pair = random_adapter(rng)[Q]
    with pytest.raises(UserError, match=f"no module '{module}'") as error:
        merge_into(model_params(), {module: pair})
    if module != "norm/scale":
        assert Q in str(error.value)


def test_merge_of_another_shape_names_both(rng):
    adapter: dict[str, Any] = {Q: random_adapter(rng)[UP]}
    with pytest.raises(UserError, match=r"q_proj: .* \[2, 7, 12\], the model has \[2, 9, 8\]"):
        merge_into(model_params(), adapter)
