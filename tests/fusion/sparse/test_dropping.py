"""DARE, DARE-TIES, DELLA and parameter selection: expectations, masks, and mergekit's rules."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from mergekit import sparsify
from mergekit.merge_methods.api import merge_tensors
from peft.utils import merge_utils

from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.sparse.dare import dare, dare_ties
from lorafuse_jax.fusion.sparse.della import della, keep_probabilities
from lorafuse_jax.fusion.sparse.parameter_selection import parameter_selection
from lorafuse_jax.fusion.sparse.ties import ties
from lorafuse_jax.types import UserError
from tests.fusion.members import (
    assert_same,
    by_layer,
    dense,
    members_of,
    random_members,
    random_weights,
)
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
    [
        (dare, {"drop": 0.3}),
        (dare, {"drop": 0.8}),
        (parameter_selection, {}),
        (parameter_selection, {"weights": [0.7, -0.5, 0.6]}),
    ],
    ids=["dare 0.3", "dare 0.8", "parameter_selection", "parameter_selection, negative weight"],
)
def test_dropping_is_the_mean_in_expectation(op, settings, rng):
    stacked = random_members(rng)
    settings = {"weights": random_weights(rng)} | settings
    samples = draws(op, stacked, **settings)
    assert_expectation(samples, dense(mean(stacked, weights=settings["weights"]))[MODULE])


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


@pytest.fixture
def same_masks(monkeypatch):
    """Torch draws what ``op`` drew with ``KEY``, one layer and member after the other."""

    def force(op, stacked, orient=lambda matrix: matrix, **settings):
        alone = jax.jit(jax.vmap(lambda w: op(stacked, weights=w, key=KEY, **settings)))
        kept = np.asarray(alone(jnp.eye(3))[MODULE].delta) != 0  # [S, L, I, O]
        masks = iter([orient(kept[s, layer]) for layer in range(2) for s in range(3)])

        def bernoulli(chances):
            return torch.tensor(np.ascontiguousarray(next(masks)), dtype=chances.dtype)

        monkeypatch.setattr(torch, "bernoulli", bernoulli)

    return force


@pytest.mark.parametrize(
    ("op", "theirs", "settings"),
    [
        (dare, merge_utils.dare_linear, {}),
        (dare_ties, merge_utils.dare_ties, {"election": "unweighted_mass", "average": "count"}),
        (
            dare_ties,
            partial(merge_utils.dare_ties, majority_sign_method="frequency"),
            {"election": "count", "average": "count"},
        ),
    ],
    ids=["dare_linear", "dare_ties total", "dare_ties frequency"],
)
def test_dare_equals_peft_on_the_same_masks(op, theirs, settings, same_masks, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = op(stacked, weights=weights, key=KEY, drop=0.3, **settings)
    same_masks(dare, stacked, drop=0.3)
    shares = torch.tensor(np.asarray(weights, np.float64))
    expected = by_layer(
        stacked, lambda taus: theirs(list(map(torch.tensor, taus)), shares, 0.7).numpy()
    )
    assert_same(fused, expected, FLOAT32)


@pytest.mark.parametrize(
    ("op", "method", "settings", "parameters"),
    [
        (dare, "dare_linear", {}, {}),
        (dare_ties, "dare_ties", {"average": "sum"}, {}),
        (della, "della", {"window": 0.3, "factor": 0.8}, {"epsilon": 0.15, "lambda": 0.8}),
    ],
    ids=["dare_linear", "dare_ties", "della"],
)
def test_dropping_equals_mergekit_on_the_same_masks(
    op, method, settings, parameters, same_masks, rng
):
    """Its defaults rescale to the l1 norm. Its matrices are [O, I]."""
    stacked, weights = random_members(rng), random_weights(rng)
    fused = op(stacked, weights=weights, key=KEY, drop=0.3, rescale="l1", **settings)
    window = {"window": 0.3} if op is della else {}
    same_masks(op, stacked, orient=np.transpose, drop=0.3, **window)
    own = {"weight": [float(w) for w in weights], "density": 0.7}

    def theirs(taus):
        tensors = [torch.tensor(tau.T.copy()) for tau in (np.zeros_like(taus[0]), *taus)]
        return merge_tensors(tensors, method, parameters=own | parameters, base_index=0).numpy().T

    assert_same(fused, by_layer(stacked, theirs), FLOAT32)


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
    """Of each member's entries 0.1 is below its quantile and 1 at it: both are drawn again."""
    stacked = members_of([[0.1, 1, 5, 6]], [[5, 6, 0.1, 1]])
    fused = parameter_selection(stacked, key=KEY, resamples=40, untouched=0.3)
    np.testing.assert_allclose(dense(fused)["layers/m"][0], [[5, 6, 5, 6]], rtol=1e-6)


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
