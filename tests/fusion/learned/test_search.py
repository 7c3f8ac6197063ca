"""Greedy soup, learned weights and random search: on losses whose answer is known, and a model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapter import inner, norm, scale, take, to_delta
from lorafuse_jax.fusion.control.null_members import shuffled_layers
from lorafuse_jax.fusion.control.scaled_mean import scaled_mean
from lorafuse_jax.fusion.learned import fuse_weighted, greedy_soup, learn_weights, random_search
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.seedlora import seedlora
from lorafuse_jax.types import UserError
from tests.fusion.members import assert_same, random_members

TWO = {"layers/self_attn/q_proj": (9, 8), "layers/mlp/up_proj": (7, 12)}


@pytest.fixture
def stacked():
    return random_members(np.random.default_rng(5), shapes=TWO)


def distance_to(target) -> Any:
    """Squared distance of an adapter to a target; the batch counts how often it is added."""

    def loss(adapter, batch=1.0):
        both = inner(adapter, adapter) - 2 * inner(adapter, target) + inner(target, target)
        return batch * both

    return loss


def test_greedy_soup_takes_in_what_helps_and_leaves_out_what_does_not(stacked):
    target = mean(stacked, weights=[0.5, 0.0, 0.5])
    soup = greedy_soup(stacked, lambda adapter: -float(distance_to(target)(adapter)))
    assert sorted(soup.members) == [0, 2]
    assert soup.score > max(soup.scores)
    assert_same(to_delta(soup.adapter), to_delta(target), 1e-5)


def test_greedy_soup_of_one_that_no_other_helps_is_that_member(stacked):
    target = take(stacked, 1)
    soup = greedy_soup(stacked, lambda adapter: -float(distance_to(target)(adapter)))
    assert soup.members == (1,)
    assert soup.score == max(soup.scores)
    assert_same(soup.adapter, target, 1e-6)


def test_greedy_soup_starts_with_the_best_and_keeps_what_does_no_harm(stacked):
    soup = greedy_soup(stacked, lambda adapter: 0.5)
    assert soup.members == (0, 1, 2)
    assert soup.scores == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("scope", ["adapter", "module", "layer"])
def test_learned_weights_find_the_combination_that_made_the_target(scope, stacked):
    wanted = {
        "adapter": {module: jnp.array([0.7, -0.2, 0.4]) for module in TWO},
        "module": {m: jnp.array([0.7, -0.2, 0.1 + i]) for i, m in enumerate(TWO)},
        "layer": {m: jnp.array([[0.7, -0.2, 0.4], [0.1, 0.5, i]]) for i, m in enumerate(TWO)},
    }[scope]
    target = fuse_weighted(mean, stacked, wanted)
    found = learn_weights(
        mean,
        stacked,
        distance_to(target),
        [jnp.array(1.0), jnp.array(2.0)],
        steps=400,
        learning_rate=0.03,
        scope=scope,
    )
    assert found.losses.shape == (400,)
    assert found.losses[-1] < 1e-3 * found.losses[0]
    for module, weights in wanted.items():
        np.testing.assert_allclose(found.weights[module], weights, atol=0.02)
    assert_same(found.adapter, fuse_weighted(mean, stacked, found.weights), 1e-5)


def test_learned_weights_start_from_the_mean(stacked):
    target = scale(take(stacked, 0), 2.0)
    found = learn_weights(scaled_mean, stacked, distance_to(target), [jnp.array(1.0)], steps=1)
    expected = distance_to(target)(scaled_mean(stacked))
    np.testing.assert_allclose(found.losses[0], expected, rtol=1e-5)


def test_learned_weights_of_an_operator_that_mixes_layers_refuse_weights_a_layer(stacked):
    op, loss = shuffled_layers(mean), distance_to(take(stacked, 0))
    with pytest.raises(UserError, match="mixes layers"):
        learn_weights(op, stacked, loss, [1.0], scope="layer", key=jax.random.key(0))


def test_learned_weights_without_validation_data_say_so(stacked):
    with pytest.raises(UserError, match="at least one batch"):
        learn_weights(mean, stacked, distance_to(take(stacked, 0)), [])


def test_random_search_ranks_points_and_each_has_the_score_of_its_settings(stacked):
    target = scaled_mean(stacked, factor=1.3)
    score = lambda adapter: -distance_to(target)(adapter)  # noqa: E731
    trials = random_search(
        scaled_mean, stacked, score, {"factor": (0.5, 2.0)}, trials=21, batch_size=8, seed=1
    )
    factors = np.array([trial.settings["factor"] for trial in trials])
    assert len(np.unique(factors)) == 21
    assert factors.min() < 0.7 and factors.max() > 1.8
    np.testing.assert_array_equal(np.argsort(np.abs(factors - 1.3)), np.arange(21))
    for trial in trials[:3]:
        expected = score(scaled_mean(stacked, **trial.settings))
        np.testing.assert_allclose(trial.score, expected, rtol=1e-3, atol=1e-3)


def test_random_search_mixes_ranges_choices_and_fixed_settings(stacked):
    space = {"quantile": (0.5, 0.95), "minimum_large": [1, 2], "tie": ["sum", "drop"]}
    trials = random_search(seedlora, stacked, norm, space, trials=6, stages="1")
    assert len(trials) == 6
    for trial in trials:
        expected = norm(seedlora(stacked, stages="1", **trial.settings))
        np.testing.assert_allclose(trial.score, expected, rtol=1e-5)
    assert [t.score for t in trials] == sorted((t.score for t in trials), reverse=True)
    assert {t.settings["minimum_large"] for t in trials} == {1, 2}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"quantil": (0.1, 0.9)}, "no hyper-parameter 'quantil'"),
        ({"minimum_large": (1, 2)}, "minimum_large cannot be searched over a range"),
        ({"tie": ["sum", "most"]}, "tie cannot be 'most'"),
    ],
)
def test_random_search_in_a_space_that_the_operator_has_not_is_refused(space, message, stacked):
    with pytest.raises(UserError, match=message):
        random_search(seedlora, stacked, norm, space)
