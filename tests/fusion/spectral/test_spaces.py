"""Core Space, KnOTS and Compress-then-Merge with any operator inside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapter import norm
from lorafuse_jax.fusion.control.null_members import shuffled_layers
from lorafuse_jax.fusion.learned import regmean
from lorafuse_jax.fusion.linear.factor_mean import factor_mean
from lorafuse_jax.fusion.linear.karcher import karcher
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.linear.svd import svd
from lorafuse_jax.fusion.seedlora import distribution_matching
from lorafuse_jax.fusion.sparse.dare import dare
from lorafuse_jax.fusion.sparse.ties import ties
from lorafuse_jax.fusion.spectral.bases import closest_bases
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


def of_different_norms(stacked):
    sizes = jnp.array([1.0, 4.0, 0.3])[:, None, None, None]
    return {m: pair._replace(lora_b=pair.lora_b * sizes) for m, pair in stacked.items()}


def swapped(taus, *settings):
    """The reference on our orientation: the order of the sides matters while alternating."""
    return reference.compressed([tau.T for tau in taus], *settings).T


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


@pytest.mark.parametrize(
    ("rank", "beta", "iterations"), [(None, 0.0, 10), (1, 1.0, 3), (4, 0.25, 2), (2, 1.0, 0)]
)
def test_mean_of_compressed_members_is_the_mean_in_the_bases_they_share(
    rank, beta, iterations, rng
):
    stacked, weights = of_different_norms(random_members(rng)), random_weights(rng)
    settings = {"beta": beta, "iterations": iterations}
    fused = compress_then_merge(mean)(stacked, weights=weights, rank=rank, **settings)
    average = lambda zs: sum(float(w) * z for w, z in zip(weights, zs, strict=True))  # noqa: E731
    expected = by_layer(
        stacked, transposed(lambda taus: swapped(taus, average, rank or 2, beta, iterations))
    )
    assert_same(fused, expected, FLOAT32)
    assert np.linalg.matrix_rank(dense(fused)[MODULE][0], tol=1e-4) == (rank or 2)


def test_ties_of_compressed_members_is_ties_of_their_coordinates(rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = compress_then_merge(ties)(stacked, weights=weights, density=0.5, rank=3, iterations=4)
    fuse = lambda zs: sparse.ties(zs, weights, 0.5)  # noqa: E731
    expected = by_layer(stacked, transposed(lambda taus: swapped(taus, fuse, 3, 0.0, 4)))
    assert_same(fused, expected, FLOAT32)


def test_alternating_keeps_more_of_the_members_than_its_start(rng):
    stacked = random_members(rng, layers=1)
    pair = jax.tree.map(lambda leaf: leaf[:, 0], stacked[MODULE])
    kept = []
    for iterations in (0, 1, 10):
        left, right = closest_bases(pair, 2, 1.0, iterations)
        coordinates = [left.T @ delta @ right.T for delta in dense(stacked)[MODULE][:, 0]]
        kept.append(sum(np.linalg.norm(z) ** 2 for z in coordinates))
    assert kept[0] < kept[1] < kept[2]


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


@pytest.mark.parametrize("merged", ["directions", "scaled"])
@pytest.mark.parametrize("density", [0.3, 1.0])
def test_ties_in_knots_is_ties_of_the_aligned_parts(density, merged, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fuse = lambda vs: sparse.ties(vs, weights, density)  # noqa: E731
    fused = knots(ties)(stacked, weights=weights, density=density, merged=merged)
    scaled = merged == "scaled"
    expected = by_layer(stacked, transposed(lambda taus: reference.knots(taus, fuse, scaled)))
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


def test_space_takes_no_operator_whose_settings_it_has_itself():
    with pytest.raises(UserError, match=r"compress_then_merge cannot take svd: .* setting 'rank'"):
        compress_then_merge(svd)


def test_space_takes_no_operator_on_all_layers():
    with pytest.raises(UserError, match=r"knots cannot take shuffled_layers:mean: .* all layers"):
        knots(shuffled_layers(mean))


def test_space_takes_no_operator_that_depends_on_signs():
    with pytest.raises(UserError, match=r"core_space cannot take distribution_matching: singular"):
        core_space(distribution_matching)


def test_space_has_no_scope_as_it_sees_one_module_of_one_layer(rng):
    with pytest.raises(UserError, match="has no hyper-parameter 'scope'"):
        core_space(karcher)(random_members(rng), scope="global")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank = 0 is not possible"),
        ({"iterations": -1}, "iterations = -1 is not possible"),
        ({"beta": 1.5}, "beta = 1.5"),
    ],
)
def test_compression_with_an_impossible_setting_says_so(settings, message, rng):
    with pytest.raises(UserError, match=message):
        compress_then_merge(mean)(random_members(rng), **settings)
