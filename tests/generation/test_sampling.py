"""Which tokens may be drawn, and how often, against transformers and the softmax itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import MinPLogitsWarper, TopPLogitsWarper

from lorafuse_jax.generation.sampling import Choice, Sampling, choose, kept_tokens

ROWS, V = 4, 40


def logits(seed):
    return np.random.default_rng(seed).normal(size=(ROWS, V)).astype(np.float32) * 2


@pytest.mark.parametrize(("top_p", "min_p"), [(0.7, 0.0), (1.0, 0.1), (0.8, 0.05), (0.01, 0.0)])
def test_kept_tokens_are_those_of_transformers(top_p, min_p):
    given = logits(seed=int(100 * top_p))
    expected = torch.tensor(given)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    if min_p > 0:
        expected = MinPLogitsWarper(min_p)(None, expected)
    rows = lambda value: jnp.full(ROWS, value)  # noqa: E731
    kept = kept_tokens(jnp.asarray(given), rows(top_p), rows(min_p), nucleus=top_p < 1)
    np.testing.assert_array_equal(kept, np.isfinite(expected.numpy()))


def sampling(temperature, count=ROWS):
    keys = jax.random.key_data(jax.random.split(jax.random.key(3), count))
    full = lambda value: jnp.full(count, value)  # noqa: E731
    return Sampling(keys, full(temperature), full(1.0), full(0.0))


def test_tokens_are_drawn_as_often_as_the_softmax_says():
    count = 20000
    row = jnp.asarray(logits(seed=4)[0, :6])
    many = jnp.broadcast_to(row, (count, 6))
    drawn = choose(many, sampling(1.3, count), jnp.zeros(count, int), Choice(True, False, 0))
    found = np.bincount(np.asarray(drawn), minlength=6) / count
    np.testing.assert_allclose(found, jax.nn.softmax(row / 1.3), atol=4 * 0.5 / count**0.5)


def test_every_token_of_a_row_is_drawn_anew():
    """The same logits a thousand times over: what is drawn depends on how many were before."""
    one = Sampling(*(jnp.repeat(x[:1], 1000, axis=0) for x in sampling(1.3)))
    many = jnp.broadcast_to(jnp.asarray(logits(seed=4)[0, :6]), (1000, 6))
    drawn = choose(many, one, jnp.arange(1000), Choice(True, False, 0))
    found = np.bincount(np.asarray(drawn), minlength=6) / 1000
    np.testing.assert_allclose(found, jax.nn.softmax(many[0] / 1.3), atol=4 * 0.5 / 1000**0.5)
    again = choose(many, one, jnp.full(1000, 7), Choice(True, False, 0))
    assert len(np.unique(again)) == 1


def test_temperature_zero_is_greedy_beside_rows_that_sample():
    given = jnp.asarray(logits(seed=5))
    mixed = sampling(0.0)._replace(temperature=jnp.array([0.0, 5.0, 0.0, 5.0]))
    chosen = choose(given, mixed, jnp.zeros(ROWS, int), Choice(True, True, 0))
    greedy = given.argmax(-1)
    np.testing.assert_array_equal(chosen[::2], greedy[::2])
    assert (chosen[1::2] != greedy[1::2]).any()
