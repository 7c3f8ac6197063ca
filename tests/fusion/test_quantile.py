"""The exact quantile by bisection, against NumPy's by sorting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorafuse_jax.fusion.quantile import magnitude_quantile

quantiles = st.floats(0, 1)
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
SIZE = 11  # one size, so that it is compiled once


def numpy_quantile(values, quantile):
    return np.quantile(np.abs(values), quantile, method="higher")


@settings(max_examples=40, deadline=None)
@given(st.lists(numbers, min_size=SIZE, max_size=SIZE), quantiles)
def test_magnitude_quantile_is_the_entry_that_sorting_finds(entries, quantile):
    values = np.array(entries, np.float32)
    found = magnitude_quantile(jnp.asarray(values), quantile)
    assert found == numpy_quantile(values, quantile)


def test_magnitude_quantile_of_a_matrix_equals_numpy_for_all_quantiles():
    values = np.random.default_rng(0).normal(size=(97, 31)).astype(np.float32)
    quantiles = jnp.linspace(0, 1, 21)
    swept = jax.jit(jax.vmap(lambda q: magnitude_quantile(jnp.asarray(values), q)))(quantiles)
    # traced quantiles are placed in single precision: the neighbouring entry at most
    ordered = np.sort(np.abs(values).ravel())
    wanted = np.array(
        [np.searchsorted(ordered, numpy_quantile(values, float(q))) for q in quantiles]
    )
    assert np.abs(np.searchsorted(ordered, swept) - wanted).max() <= 1


def test_magnitude_quantile_picks_what_the_interpolated_quantile_picks():
    values = np.random.default_rng(1).normal(size=(40, 25)).astype(np.float32)
    ours = np.abs(values) >= magnitude_quantile(jnp.asarray(values), 0.9)
    np.testing.assert_array_equal(ours, np.abs(values) >= np.quantile(np.abs(values), 0.9))


@pytest.mark.parametrize("fill", [0.0, -3.5, 1e-30])
def test_magnitude_quantile_of_equal_entries_is_their_magnitude(fill):
    assert magnitude_quantile(jnp.full((4, 5), fill), 0.37) == np.float32(abs(fill))


def test_magnitude_quantile_stops_gradients():
    gradient = jax.grad(lambda x: magnitude_quantile(x, 0.5))(jnp.arange(5.0))
    np.testing.assert_array_equal(gradient, 0)
