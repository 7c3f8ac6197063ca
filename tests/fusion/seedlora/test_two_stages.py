"""Version 2 of SeedLoRA, switch by switch, against an entry-by-entry reference."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapter import norm, take, to_delta
from lorafuse_jax.fusion import kept_norm_share
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.seedlora.two_stages import seedlora
from lorafuse_jax.types import DenseDelta, LoraPair, UserError
from tests.fusion.members import (
    assert_same,
    by_layer,
    dense,
    members_of,
    random_members,
    random_weights,
)
from tests.references import seedlora as reference

FLOAT32 = 5e-5  # two SVDs in single precision
ABOUT = 0.07  # facts about Gaussian entries; products of rank 8 have heavier tails
RANK = 2
MODULE = "layers/mlp/up_proj"
FIRST = [[4, 1, -2], [0.5, -6, 3]]
SECOND = [[2, 5, -1], [3, 6, 0.5]]
THIRD = [[6, -4, 1], [2, -3, -5]]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@cache
def compiled(**settings):
    """Compiling takes all the time of these tests, so tests share what they can."""
    return jax.jit(lambda s, w, key: seedlora(s, weights=w, key=key, **settings))


def fuse(stacked, weights=None, key=None, **settings):
    members = next(iter(stacked.values())).lora_a.shape[0]
    weights = jnp.full(members, 1 / members) if weights is None else weights
    return compiled(**settings)(stacked, weights, key)


# Quantile 0.6 of six magnitudes is the 4th: 3, 3 and 4. Large are 4 -6 3 | 5 3 6 | 6 -4 -5.
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [[5, 5, 0], [3, 0, -5]]),
        ({"minimum_large": 2}, [[5, 5, 0], [0, 0, -5]]),
        ({"tie": "drop"}, [[5, 0, 0], [3, 0, 0]]),
    ],
)
def test_stage_one_of_a_hand_worked_example(settings, expected):
    fused = fuse(members_of(FIRST, SECOND, THIRD), stages="1", quantile=0.6, **settings)
    np.testing.assert_allclose(dense(fused)["layers/m"][0], expected, rtol=1e-6)


def test_both_stages_of_a_hand_worked_example_splice_the_mean_where_nothing_is_settled():
    fused = fuse(members_of(FIRST, SECOND, THIRD), quantile=0.6)  # rank 2 of a 2 x 3: lossless
    expected = [[5, 5, -2 / 3], [3, -1, -5]]
    np.testing.assert_allclose(dense(fused)["layers/m"][0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"quantile": 0.6, "minimum_large": 2},
        {"quantile": 0.3, "tie": "drop"},
        {"mask": "before", "quantile": 0.8},
        {"fuse": "ties", "density": 0.4},
        {"mask": "before", "fuse": "ties", "density": 0.7},
    ],
    ids=str,
)
def test_seedlora_equals_the_reference(settings, rng):
    stacked, weights = random_members(rng, members=4), random_weights(rng, members=4)
    exact = [float(w) for w in weights]
    fused = fuse(stacked, weights, **settings)
    expected = by_layer(stacked, lambda taus: reference.seedlora(taus, exact, RANK, **settings))
    assert_same(fused, expected, FLOAT32)


@pytest.mark.parametrize(("subspace", "size"), [("r", RANK), ("2r", 2 * RANK), ("nr", 3 * RANK)])
def test_stage_two_with_mean_is_the_truncated_svd_of_the_mean(subspace, size, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = fuse(stacked, weights, stages="2", subspace=subspace)
    expected = {
        m: np.stack([reference.truncated_svd(d, size) for d in deltas])
        for m, deltas in dense(mean(stacked, weights=weights)).items()
    }
    assert_same(fused, expected, FLOAT32)
    assert isinstance(fused[MODULE], LoraPair)
    assert fused[MODULE].lora_a.shape[-1] == size


@pytest.mark.parametrize(("output", "rank"), [("rank", RANK), (5, 5)])
def test_low_rank_output_is_the_best_approximation_of_the_dense_one(output, rank, rng):
    stacked = random_members(rng)
    exact, low = fuse(stacked), fuse(stacked, output=output)
    assert isinstance(exact[MODULE], DenseDelta)
    assert low[MODULE].lora_b.shape[-2] == rank
    best = {
        m: np.stack([reference.truncated_svd(d, rank) for d in deltas])
        for m, deltas in dense(exact).items()
    }
    assert_same(low, best, FLOAT32)
    share = np.linalg.norm(best[MODULE]) / np.linalg.norm(dense(exact)[MODULE])
    assert 0 < share < 0.999
    np.testing.assert_allclose(kept_norm_share(exact, low), share, rtol=1e-5)


def test_low_rank_output_of_stage_two_truncates_its_coordinates(rng):
    stacked = random_members(rng)
    low = fuse(stacked, stages="2", subspace="nr", output="rank")
    assert_same(low, fuse(stacked, stages="2"), FLOAT32)


def test_weight_on_one_member_alone_returns_that_member(rng):
    stacked = random_members(rng)
    assert_same(fuse(stacked, jnp.array([0.0, 1.0, 0.0])), take(stacked, 1), FLOAT32)


def test_dare_without_dropping_is_the_mean(rng):
    stacked = random_members(rng)
    dropped = fuse(stacked, key=jax.random.key(0), fuse="dare", drop=0.0)
    assert_same(dropped, fuse(stacked), FLOAT32)


def test_dare_depends_on_the_key_alone_and_is_unbiased(rng):
    stacked = random_members(rng)

    @jax.jit
    @partial(jax.vmap, in_axes=0)
    def many(key):
        fused = seedlora(stacked, key=key, stages="2", fuse="dare")
        return to_delta(fused)[MODULE][0]

    draws = many(jax.random.split(jax.random.key(1), 600))
    np.testing.assert_array_equal(draws, many(jax.random.split(jax.random.key(1), 600)))
    assert not np.allclose(draws[0], draws[1])
    spread = np.std(draws, axis=0) / np.sqrt(600)
    error = np.abs(np.mean(draws, axis=0) - dense(fuse(stacked, stages="2"))[MODULE])
    assert (error < 5 * spread + 1e-5).all()  # five standard errors


def test_dare_of_a_module_does_not_depend_on_the_other_modules(rng):
    stacked = random_members(rng, shapes={MODULE: (9, 12), "layers/mlp/down_proj": (12, 9)})
    key = jax.random.key(3)
    settings = {"fuse": "dare", "key": key, "stages": "2"}
    alone = fuse({MODULE: stacked[MODULE]}, **settings)
    assert_same(alone, {MODULE: fuse(stacked, **settings)[MODULE]}, FLOAT32)


def test_stage_one_undoes_the_shrinking_of_the_mean_only_with_a_minimum_of_one():
    shapes = {"layers/m": (120, 100)}
    stacked = random_members(np.random.default_rng(0), shapes=shapes, rank=8, layers=1)
    single = norm(take(stacked, 0))
    shares = [
        float(norm(fuse(stacked, subspace="nr", minimum_large=minimum)) / single)
        for minimum in (1, 2)
    ]
    np.testing.assert_allclose(norm(mean(stacked)) / single, 0.577, rtol=ABOUT)
    np.testing.assert_allclose(shares, [1.2, 0.65], rtol=ABOUT)


def test_quantile_can_be_swept_in_one_vmap(rng):
    stacked = random_members(rng)
    quantiles = jnp.array([0.9, 0.3])
    swept = jax.jit(jax.vmap(lambda q: seedlora(stacked, quantile=q)))(quantiles)
    first, second = (jax.tree.map(lambda leaf, n=n: leaf[n], swept) for n in range(2))
    assert_same(first, fuse(stacked), FLOAT32)
    with pytest.raises(AssertionError, match="relative error"):
        assert_same(second, first, FLOAT32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantile": 1.2}, r"quantile = 1.2 is not possible: expected \[0, 1\]"),
        ({"drop": 1.0}, r"drop = 1 is not possible: expected \[0, 1\)"),
        ({"density": -0.1}, "density = -0.1"),
        ({"minimum_large": 0}, "minimum_large = 0"),
        ({"output": 0}, "output = 0 is no rank"),
        ({"fuse": "dare"}, "needs a key"),
        ({"fuse": "ties", "tie": "maybe"}, r"tie cannot be 'maybe'; expected tie: sum \| drop"),
        ({"quantile": "0.9"}, "quantile cannot be '0.9'; expected quantile: float = 0.9"),
    ],
    ids=str,
)
def test_seedlora_with_a_setting_out_of_range_says_what_is_expected(settings, message, rng):
    with pytest.raises(UserError, match=message):
        seedlora(random_members(rng, layers=1), **settings)
