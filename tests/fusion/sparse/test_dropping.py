"""DARE, DARE-TIES, DELLA and parameter selection: expectations, masks, and mergekit's rules."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from mergekit import sparsify

from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.sparse.dare import dare, dare_ties
from lorafuse_jax.fusion.sparse.della import della, keep_probabilities
from lorafuse_jax.fusion.sparse.parameter_selection import parameter_selection
from lorafuse_jax.fusion.sparse.ties import ties
from lorafuse_jax.types import UserError
from tests.fusion.members import assert_same, dense, members_of, random_members, random_weights
from tests.references import sparse as reference

FLOAT32 = 1e-5
MODULE = "layers/mlp/up_proj"
DRAWS = 600
KEY = jax.random.key(7)
ALONE = [0.0, 1.0, 0.0]


@pytest.fixture
def rng():
    return np.random.default_rng(51)


def draws(op, stacked, **settings):
    """Deltas of many keys, [draws, L, I, O]."""
    fuse = jax.jit(jax.vmap(lambda key: op(stacked, key=key, **settings)[MODULE].delta))
    return np.asarray(fuse(jax.random.split(KEY, DRAWS)), np.float64)


def assert_expectation(samples, expected):
    """Within five standard errors everywhere, and within one on the whole."""
    error = (samples.mean(0) - expected) / (samples.std(0) / DRAWS**0.5 + 1e-6)
    assert np.abs(error).max() < 5
    assert np.sqrt((error**2).mean()) < 1.3


@pytest.mark.parametrize(
    ("op", "settings"),
    [(dare, {"drop": 0.3}), (dare, {"drop": 0.8}), (parameter_selection, {})],
    ids=["dare 0.3", "dare 0.8", "parameter_selection"],
)
def test_dropping_is_the_mean_in_expectation(op, settings, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    samples = draws(op, stacked, weights=weights, **settings)
    assert_expectation(samples, dense(mean(stacked, weights=weights))[MODULE])


def test_della_of_one_member_is_that_member_in_expectation(rng):
    stacked = random_members(rng)
    samples = draws(della, stacked, weights=ALONE, drop=0.4, window=0.5)
    assert_expectation(samples, dense(stacked)[MODULE][1])


def test_dare_drops_entries_at_its_rate_and_rescales_the_others(rng):
    stacked = random_members(rng, layers=1)
    samples = draws(dare, stacked, weights=ALONE, drop=0.3)
    member = dense(stacked)[MODULE][1]
    kept = samples != 0
    assert abs(kept.mean() - 0.7) < 0.01
    expected = np.broadcast_to(member / 0.7, samples.shape)
    np.testing.assert_allclose(samples[kept], expected[kept], rtol=1e-4)
    correlation = np.corrcoef(kept[:, 0, 0, 0], kept[:, 0, 0, 1])[0, 1]
    assert abs(correlation) < 0.2


def test_dare_draws_another_mask_for_each_member_row_and_layer(rng):
    one = {m: type(p)(*(jnp.ones_like(leaf) for leaf in p)) for m, p in random_members(rng).items()}
    first, second = (
        np.asarray(dare(one, weights=w, key=KEY)[MODULE].delta) != 0 for w in jnp.eye(3)[:2]
    )
    assert not np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])
    assert len({row.tobytes() for row in first[0]}) == first.shape[1]


@pytest.mark.parametrize("op", [dare, dare_ties, della])
def test_rescaling_to_the_l1_norm_restores_it(op, rng):
    stacked = random_members(rng)
    fused = op(stacked, weights=ALONE, key=KEY, rescale="l1")
    norms = [np.abs(d).sum((-2, -1)) for d in (dense(fused)[MODULE], dense(stacked)[MODULE][1])]
    np.testing.assert_allclose(*norms, rtol=1e-4)


@pytest.mark.parametrize("op", [dare_ties, partial(della, window=0.0)])
def test_dropping_nothing_before_an_election_is_ties_that_keeps_all(op, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = op(stacked, weights=weights, key=KEY, drop=0.0)
    assert_same(fused, ties(stacked, weights=weights, density=1.0), FLOAT32)


@pytest.mark.parametrize("settings", [{}, {"election": "count", "average": "count"}], ids=str)
def test_dare_ties_elects_among_what_was_not_dropped(settings, rng):
    """The masks are known from the members alone."""
    stacked, weights = random_members(rng), random_weights(rng)
    dropped = [dense(dare(stacked, weights=w, key=KEY))[MODULE] for w in jnp.eye(3)]
    fused = dare_ties(stacked, weights=weights, key=KEY, **settings)
    expected = [
        reference.consensus([d[layer] for d in dropped], [float(w) for w in weights], **settings)
        for layer in range(2)
    ]
    assert_same(fused, {MODULE: np.stack(expected)}, 1e-4)


def test_della_keeps_by_rank_among_the_inputs_of_an_output(rng):
    stacked = random_members(rng, layers=1)
    samples = draws(della, stacked, weights=ALONE, drop=0.4, window=0.6)
    keep = reference.keep_probabilities(dense(stacked)[MODULE][1, 0], 0.4, 0.6)
    np.testing.assert_allclose((samples != 0).mean(0)[0], keep, atol=0.1)
    assert np.abs((samples != 0).mean(0)[0] - keep).mean() < 0.02


def test_della_keeps_with_mergekits_probabilities(rng, monkeypatch):
    """Their rows are outputs too, and their epsilon is half of our window."""
    row = rng.normal(size=(4, 11)).astype(np.float32)
    asked = []
    monkeypatch.setattr(
        torch, "bernoulli", lambda p: asked.append(p.numpy()) or torch.ones(p.shape)
    )
    sparsify.della_magprune(torch.tensor(row), density=0.6, epsilon=0.15)
    np.testing.assert_allclose(keep_probabilities(jnp.asarray(row), 0.4, 0.3), asked[0], atol=1e-6)


def test_parameter_selection_takes_whole_entries_with_the_members_chances(rng):
    stacked, weights = random_members(rng, layers=1), random_weights(rng)
    samples = draws(parameter_selection, stacked, weights=weights)[:, 0]
    members = dense(stacked)[MODULE][:, 0]
    distance = np.abs(samples[:, None] - members[None])
    assert distance.min(1).max() < 1e-4
    chances = [(distance.argmin(1) == k).mean() for k in range(3)]
    np.testing.assert_allclose(chances, weights, atol=0.01)


def test_parameter_selection_draws_again_what_a_member_left_untouched():
    """An entry of the first member is zero: drawn again once it stays so with chance 1/4."""
    stacked = members_of([[0, 1]], [[2, 2]])
    one = jax.jit(jax.vmap(lambda k: parameter_selection(stacked, key=k, resamples=1)))
    entries = np.asarray(one(jax.random.split(KEY, DRAWS))["layers/m"].delta)[:, 0, 0]
    assert abs((entries[:, 0] == 0).mean() - 0.25) < 0.08
    assert abs((entries[:, 1] == 1).mean() - 0.5) < 0.08


def test_parameter_selection_counts_small_entries_as_untouched():
    stacked = members_of([[0.1, 1, 5, 6]], [[2, 2, 2, 2]])
    fuse = lambda k: parameter_selection(stacked, key=k, resamples=40, untouched=0.3)  # noqa: E731
    entries = np.asarray(jax.jit(jax.vmap(fuse))(jax.random.split(KEY, 50))["layers/m"].delta)
    first = entries[:, 0, 0]
    assert not (first[:, :2] == 0.1).any()  # 0.1 and 1 are below, and all of the second at, 0.3
    assert (first[:, 2:] != 2).any()


@pytest.mark.parametrize(
    ("op", "settings", "message"),
    [
        (dare, {"drop": 1.0}, r"dare: drop = 1 is not possible: expected \[0, 1\)"),
        (dare_ties, {"drop": -0.1}, r"dare_ties: drop = -0.1"),
        (della, {"drop": 0.95, "window": 0.2}, r"gives probabilities 0.85 to 1.05: expected \[0"),
        (parameter_selection, {"resamples": -1}, "resamples = -1: expected 0 or more"),
    ],
)
def test_setting_out_of_range_says_so(op, settings, message, rng):
    with pytest.raises(UserError, match=message):
        op(random_members(rng), key=KEY, **settings)


def test_dropping_without_a_key_asks_for_one(rng):
    with pytest.raises(UserError, match="dare is stochastic and needs a key"):
        dare(random_members(rng))
