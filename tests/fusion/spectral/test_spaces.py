"""Core Space, KnOTS and Compress-then-Merge with any operator inside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapter import norm
from lorafuse_jax.fusion.learned import regmean
from lorafuse_jax.fusion.linear.factor_mean import factor_mean
from lorafuse_jax.fusion.linear.karcher import karcher
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.sparse.dare import dare
from lorafuse_jax.fusion.sparse.ties import ties
from lorafuse_jax.fusion.spectral.spaces import compress_then_merge, core_space, knots
from lorafuse_jax.types import LoraPair, UserError
from tests.fusion.members import (
    assert_same,
    by_layer,
    dense,
    members_of,
    random_members,
    random_weights,
)
from tests.references import sparse
from tests.references import spectral as reference

FLOAT32 = 1e-4  # two SVDs in single precision, and entries in their bases
MODULE = "layers/mlp/up_proj"
SPACES = [core_space, knots, compress_then_merge]


@pytest.fixture
def rng():
    return np.random.default_rng(61)


def transposed(function):
    """Of the papers' matrices [O, I]."""
    return lambda taus: function([tau.T for tau in taus]).T


@pytest.mark.parametrize("space", [core_space, knots])
def test_mean_in_a_lossless_space_is_the_mean(space, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = space(mean)(stacked, weights=weights)
    assert_same(fused, mean(stacked, weights=weights), FLOAT32)
    assert isinstance(fused[MODULE], LoraPair)
    assert fused[MODULE].lora_a.shape[-1] == 6


@pytest.mark.parametrize("rank", [None, 1, 4])
def test_mean_of_compressed_members_is_the_mean_in_their_leading_directions(rank, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = compress_then_merge(mean)(stacked, weights=weights, rank=rank)
    average = lambda zs: sum(float(w) * z for w, z in zip(weights, zs, strict=True))  # noqa: E731
    expected = by_layer(
        stacked, transposed(lambda taus: reference.in_core(taus, average, rank or 2))
    )
    assert_same(fused, expected, FLOAT32)
    assert np.linalg.matrix_rank(dense(fused)[MODULE][0], tol=1e-4) == (rank or 2)


@pytest.mark.parametrize("density", [0.3, 1.0])
def test_ties_in_core_space_is_ties_of_the_coordinates(density, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fuse = lambda zs: sparse.ties(zs, weights, density)  # noqa: E731
    fused = core_space(ties)(stacked, weights=weights, density=density)
    expected = by_layer(stacked, transposed(lambda taus: reference.in_core(taus, fuse)))
    assert_same(fused, expected, FLOAT32)


def test_ties_in_the_papers_core_space_is_ties_in_the_bases_of_the_factors(rng):
    stacked, weights = random_members(rng, layers=1), random_weights(rng)
    a, b = (np.asarray(leaf[:, 0], np.float64) for leaf in stacked[MODULE])
    factors = [(a[k].T, b[k].T) for k in range(3)]
    fuse = lambda zs: sparse.ties(zs, weights, 0.3)  # noqa: E731
    expected = by_layer(
        stacked, transposed(lambda taus: reference.in_core(taus, fuse, factors=factors))
    )
    fused = core_space(ties)(stacked, weights=weights, density=0.3, basis="factors")
    assert_same(fused, expected, FLOAT32)


def test_only_bases_of_the_deltas_ignore_how_members_are_factored(rng):
    stacked = random_members(rng)
    pair = stacked[MODULE]
    turn = np.eye(2) + 0.6 * rng.normal(size=(3, 2, 2, 2))
    turned = {
        MODULE: LoraPair(
            jnp.asarray(pair.lora_a @ turn, jnp.float32),
            jnp.asarray(np.linalg.inv(turn) @ np.asarray(pair.lora_b), jnp.float32),
        )
    }
    op = core_space(ties)
    assert_same(op(turned, density=0.3), op(stacked, density=0.3), FLOAT32)
    with pytest.raises(AssertionError, match="relative error"):
        assert_same(
            op(turned, density=0.3, basis="factors"), op(stacked, density=0.3, basis="factors"), 0.1
        )


@pytest.mark.parametrize("density", [0.3, 1.0])
def test_ties_in_knots_is_ties_of_the_aligned_parts(density, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fuse = lambda vs: sparse.ties(vs, weights, density)  # noqa: E731
    fused = knots(ties)(stacked, weights=weights, density=density)
    expected = by_layer(stacked, transposed(lambda taus: reference.knots(taus, fuse)))
    assert_same(fused, expected, FLOAT32)


def test_knots_of_a_hand_worked_example():
    """Members along the axes: their parts never meet, so that no vote is lost."""
    members = members_of([[3, 0], [0, 0]], [[0, 0], [0, 5]])
    fused = knots(ties)(members, density=1.0)
    np.testing.assert_allclose(dense(fused)["layers/m"][0], [[3, 0], [0, 5]], atol=1e-5)


@pytest.mark.parametrize("space", SPACES)
def test_space_takes_the_settings_of_both(space, rng):
    op = space(ties)
    assert op.name == f"{space.__name__}:ties"
    assert op.hyperparameters.items() >= ties.hyperparameters.items()
    with pytest.raises(UserError, match=r"has no hyper-parameter 'densty'; it has density: float"):
        op(random_members(rng), densty=0.2)


@pytest.mark.parametrize("space", SPACES)
def test_space_hands_a_key_on(space, rng):
    stacked = random_members(rng)
    op = space(dare)
    first, again, other = (norm(op(stacked, key=jax.random.key(k))) for k in (0, 0, 1))
    assert first == again != other
    with pytest.raises(UserError, match="needs a key"):
        op(stacked)


def test_space_takes_operators_of_the_whole_tree(rng):
    stacked = random_members(rng)
    assert_same(core_space(karcher)(stacked), karcher(stacked), FLOAT32)


@pytest.mark.parametrize("inner", [regmean, factor_mean], ids=lambda op: op.name)
def test_space_refuses_operators_on_more_than_deltas(inner):
    with pytest.raises(UserError, match=f"core_space cannot take {inner.name}"):
        core_space(inner)


def test_compression_to_no_rank_says_so(rng):
    with pytest.raises(UserError, match="rank = 0 is not possible"):
        compress_then_merge(mean)(random_members(rng), rank=0)
