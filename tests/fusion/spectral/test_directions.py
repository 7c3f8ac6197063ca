"""TSV-M, Iso-C, SeedFT, POME and LoRA-LEGO."""

import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapter import norm, pad_rank, scale, take
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.spectral.iso import iso
from lorafuse_jax.fusion.spectral.lego import lego
from lorafuse_jax.fusion.spectral.pome import pome
from lorafuse_jax.fusion.spectral.seedft import seedft
from lorafuse_jax.fusion.spectral.tsv import tsv
from lorafuse_jax.types import LoraPair, UserError
from tests.fusion.members import (
    assert_same,
    by_layer,
    dense,
    members_of,
    random_members,
    random_weights,
    repeat,
)
from tests.references import spectral as reference

FLOAT32 = 1e-4  # several SVDs in single precision
MODULE = "layers/mlp/up_proj"
APART = members_of([[4, 0], [0, 0]], [[0, 0], [0, 2]])


@pytest.fixture
def rng():
    return np.random.default_rng(71)


def hand(fused):
    return dense(fused)["layers/m"][0]


def transposed(function):
    """Of the papers' matrices [O, I]."""
    return lambda taus: function([tau.T for tau in taus]).T


@pytest.mark.parametrize(
    ("op", "settings", "expected"),
    [
        (tsv, {"factor": 2.0, "directions": 1}, [[4, 0], [0, 2]]),  # orthogonal already: the sum
        (iso, {}, [[1.5, 0], [0, 1.5]]),  # the mean has singular values 2 and 1
        (seedft, {"share": 1.0}, [[2**-0.5 * 4, 0], [0, 2**-0.5 * 2]]),
        (pome, {"share": 1.0}, [[4, 0], [0, 0]]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_directions_of_a_hand_worked_example(op, settings, expected):
    np.testing.assert_allclose(hand(op(APART, **settings)), expected, atol=1e-5)


@pytest.mark.parametrize("directions", [None, 1, 2])
def test_tsv_equals_the_reference(directions, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = tsv(stacked, weights=weights, directions=directions, factor=1.3)
    expected = by_layer(
        stacked, transposed(lambda taus: reference.tsv(taus, weights, directions or 2, 1.3))
    )
    assert_same(fused, expected, FLOAT32)


def test_iso_equals_the_reference(rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = iso(stacked, weights=weights, factor=0.7)
    expected = by_layer(stacked, lambda taus: reference.iso(taus, weights, 0.7))
    assert_same(fused, expected, FLOAT32)


@pytest.mark.parametrize(("share", "kept"), [(0.5, 3), (1.0, 6), (0.0, 1)])
@pytest.mark.parametrize("rescale", [True, False])
def test_seedft_equals_the_reference(share, kept, rescale, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = seedft(stacked, weights=weights, share=share, rescale=rescale)
    expected = by_layer(
        stacked, transposed(lambda taus: reference.seedft(taus, weights, kept, rescale))
    )
    assert_same(fused, expected, FLOAT32)


def test_seedft_of_negated_weights_is_negated(rng):
    stacked, weights = random_members(rng), random_weights(rng)
    expected = scale(seedft(stacked, weights=weights), -1.0)
    assert_same(seedft(stacked, weights=-weights), expected, FLOAT32)


def test_seedft_keeps_a_share_of_the_directions_that_are_no_padding(rng):
    stacked = random_members(rng)
    assert_same(seedft(pad_rank(stacked, 5)), seedft(stacked), FLOAT32)


def test_seedft_keeps_a_tenth_of_thirty_directions(rng):
    stacked = random_members(rng, rank=10, layers=1, shapes={MODULE: (40, 50)})
    assert seedft(stacked, share=0.1)[MODULE].lora_a.shape[-1] == 3


def test_seedft_as_written_inflates_identical_members_by_the_root_of_their_number(rng):
    stacked = repeat(random_members(rng), 3)
    ratio = norm(seedft(stacked, rescale=False)) / norm(take(stacked, 0))
    np.testing.assert_allclose(ratio, 3**0.5, rtol=FLOAT32)


@pytest.mark.parametrize(("share", "kept"), [(0.5, 1), (0.51, 2), (1.0, 2), (0.0, 1)])
def test_pome_equals_the_reference_and_keeps_the_norm(share, kept, rng):
    stacked = random_members(rng)
    fused = pome(stacked, member=2, share=share)
    weights = [1 / 3] * 3
    expected = by_layer(stacked, lambda taus: reference.pome(taus, weights, 2, kept))
    assert_same(fused, expected, FLOAT32)
    np.testing.assert_allclose(norm(fused), norm(take(stacked, 2)), rtol=FLOAT32)


def test_lego_of_a_hand_worked_example():
    """Units e1 with row (4, 0), e1 with (2, 0), e2 with (0, 2) and e2 with nothing."""
    fused = lego(members_of([[4, 0], [0, 2]], [[2, 0], [0, 0]]), reweight=False)
    np.testing.assert_allclose(hand(fused), [[3, 0], [0, 1]], atol=1e-5)


def clear_units(rng):
    """Two units of length ten that all members have, in other orders and a little moved."""
    a, b = 10 * rng.normal(size=(9, 2)), 10 * rng.normal(size=(2, 12))
    orders = [[0, 1], [1, 0], [0, 1]]
    noise = lambda shape: 0.01 * rng.normal(size=shape)  # noqa: E731
    lora_a = np.stack([a[:, order] + noise(a.shape) for order in orders])[:, None]
    lora_b = np.stack([b[order] + noise(b.shape) for order in orders])[:, None]
    return {MODULE: LoraPair(jnp.asarray(lora_a, jnp.float32), jnp.asarray(lora_b, jnp.float32))}


@pytest.mark.parametrize("shares", [None, [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
@pytest.mark.parametrize(("rank", "reweight"), [(3, True), (2, False)])
def test_lego_equals_the_reference(rank, reweight, shares, rng):
    stacked = random_members(rng, rank=3, layers=1)
    weights = random_weights(rng) if shares is None else jnp.asarray(shares)
    a, b = (np.asarray(leaf[:, 0], np.float64) for leaf in stacked[MODULE])
    factors = [(x.T, y.T) for x, y in zip(a, b, strict=True)]
    expected = reference.lego(factors, weights, rank, reweight).T
    fused = lego(stacked, weights=weights, rank=rank, reweight=reweight)
    assert_same(fused, {MODULE: expected[None]}, FLOAT32)


def test_lego_of_all_the_weight_on_one_member_is_that_member(rng):
    stacked = random_members(rng)
    assert_same(lego(stacked, weights=[0.0, 1.0, 0.0]), take(stacked, 1), FLOAT32)


@pytest.mark.parametrize("units", ["factors", "svd"])
def test_lego_clusters_no_padding(units, rng):
    stacked = random_members(rng)
    padded = scale(lego(pad_rank(stacked, 4), rank=2, units=units), 0.5**0.5)  # sqrt(R / k)
    assert_same(padded, lego(stacked, rank=2, units=units), FLOAT32)


def test_lego_finds_the_units_that_members_share_in_any_order(rng):
    stacked = clear_units(rng)
    weights = random_weights(rng)
    fused = lego(stacked, weights=weights, reweight=False)
    a, b = (np.asarray(leaf[:, 0], np.float64) for leaf in stacked[MODULE])
    a[1], b[1] = a[1][:, ::-1], b[1][::-1]
    average = [np.einsum("s,sij->ij", np.asarray(weights, np.float64), x) for x in (a, b)]
    assert_same(fused, {MODULE: (average[0] @ average[1])[None]}, FLOAT32)
    assert_same(lego(stacked, weights=weights), fused, 1e-2)  # the centroids hardly shrank


def test_lego_with_as_many_clusters_as_units_and_one_member_is_that_member(rng):
    stacked = random_members(rng, members=1)
    assert_same(lego(stacked), take(stacked, 0), FLOAT32)


def test_lego_with_half_the_clusters_scales_by_the_root_of_two(rng):
    stacked = {m: LoraPair(*(leaf[:1] for leaf in p)) for m, p in clear_units(rng).items()}
    fused = lego(stacked, rank=1, reweight=False)
    a, b = (np.asarray(leaf[0, 0], np.float64) for leaf in stacked[MODULE])
    expected = 2**0.5 * np.outer(a.mean(1), b.mean(0))
    assert_same(fused, {MODULE: expected[None]}, FLOAT32)


def test_lego_restores_the_length_of_its_units(rng):
    stacked = random_members(rng, layers=1)
    fused = lego(stacked, rank=1)
    a, b = (np.asarray(leaf[:, 0], np.float64) for leaf in stacked[MODULE])
    units = np.concatenate([a.swapaxes(1, 2), b], axis=-1).reshape(6, -1)
    wanted = np.linalg.norm(units, axis=1).mean()
    centroid = units.mean(0) * wanted / np.linalg.norm(units.mean(0))
    expected = 2**0.5 * np.outer(centroid[:9], centroid[9:])
    assert_same(fused, {MODULE: expected[None]}, FLOAT32)


def test_lego_of_singular_directions_ignores_how_members_are_factored(rng):
    stacked = random_members(rng)
    pair = stacked[MODULE]
    turn = np.eye(2) + 0.6 * rng.normal(size=(3, 2, 2, 2))
    turned = {
        MODULE: LoraPair(
            jnp.asarray(pair.lora_a @ turn, jnp.float32),
            jnp.asarray(np.linalg.inv(turn) @ np.asarray(pair.lora_b), jnp.float32),
        )
    }
    assert_same(lego(turned, units="svd"), lego(stacked, units="svd"), FLOAT32)
    with pytest.raises(AssertionError, match="relative error"):
        assert_same(lego(turned), lego(stacked), 0.1)


@pytest.mark.parametrize(
    ("op", "settings", "message"),
    [
        (tsv, {"directions": 0}, "directions = 0 is not possible"),
        (seedft, {"share": 1.1}, "seedft: share = 1.1"),
        (pome, {"member": 3}, "member = 3; there are 0 to 2"),
        (lego, {"rank": 0}, "lego: rank = 0"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_setting_out_of_range_says_so(op, settings, message, rng):
    with pytest.raises(UserError, match=message):
        op(random_members(rng), **settings)


def test_iso_of_one_member_has_its_directions_and_their_mean_length(rng):
    stacked = random_members(rng, members=1, layers=1)
    ours = np.linalg.svd(dense(iso(stacked))[MODULE][0])[1][:3]
    own = np.linalg.svd(dense(mean(stacked))[MODULE][0])[1][:2]
    np.testing.assert_allclose(ours, [own.mean(), own.mean(), 0], atol=FLOAT32 * own.max())
