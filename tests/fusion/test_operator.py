"""Settings from text, composition and the table."""

from functools import partial

import jax
import numpy as np
import pytest

from lorafuse_jax.adapter import compress, scale
from lorafuse_jax.fusion import OPERATORS, compose, get_operator, parse_settings, table_of
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.seedlora.two_stages import seedlora
from lorafuse_jax.types import UserError
from tests.fusion.members import assert_same, dense, random_members
from tests.references.seedlora import truncated_svd


@pytest.mark.parametrize(
    ("operator", "text", "value"),
    [
        ("seedlora", "quantile=0.95", 0.95),
        ("seedlora", "quantile = 1", 1.0),
        ("seedlora", "minimum_large=2", 2),
        ("seedlora", "output=rank", "rank"),
        ("seedlora", "output=16", 16),
        ("scaled_mean", "factor=none", None),
        ("scaled_mean", "factor=1.7", 1.7),
        ("distribution_matching", "best=0", 0),
    ],
)
def test_setting_from_text_has_the_declared_type(operator, text, value):
    (parsed,) = parse_settings(get_operator(operator), [text]).values()
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quantile", "'quantile' is not name=value; it has stages"),
        ("quantil=0.9", "no hyper-parameter 'quantil'; it has .*quantile: float = 0.9"),
        ("quantile=high", "quantile cannot be 'high'; expected quantile: float = 0.9"),
        ("minimum_large=1.5", "minimum_large cannot be '1.5'; expected minimum_large: int = 1"),
        ("tie=majority", r"tie cannot be 'majority'; expected tie: sum \| drop = sum"),
        ("output=full", r"output cannot be 'full'; expected output: dense \| rank \| int = dense"),
    ],
)
def test_setting_that_cannot_be_read_says_what_is_expected(text, message):
    with pytest.raises(UserError, match=message):
        parse_settings(seedlora, [text])


def test_setting_given_twice_raises():
    with pytest.raises(UserError, match="tie is given twice"):
        parse_settings(seedlora, ["tie=sum", "tie=drop"])


def test_resolve_fills_in_defaults_and_rejects_strangers():
    resolved = seedlora.resolve({"quantile": 1})
    assert resolved["quantile"] == 1.0
    assert resolved.keys() == seedlora.hyperparameters.keys()
    assert resolved["fuse"] == "mean"
    with pytest.raises(UserError, match="'alpha'"):
        seedlora.resolve({"alpha": 1})


def test_compose_applies_transforms_from_left_to_right():
    stacked = random_members(np.random.default_rng(0))
    fused = compose(mean, partial(compress, rank=1), partial(scale, factor=2.0))(stacked)
    best = {
        m: np.stack([2 * truncated_svd(d, 1) for d in deltas])
        for m, deltas in dense(mean(stacked)).items()
    }
    assert_same(fused, best, 2e-5)


def test_operator_that_is_not_stochastic_refuses_a_key():
    with pytest.raises(UserError, match="mean is not stochastic"):
        mean(random_members(np.random.default_rng(0)), key=jax.random.key(0))


def test_table_with_a_name_twice_raises():
    with pytest.raises(ValueError, match="'mean'"):
        table_of([mean, seedlora, mean])


def test_unknown_operator_lists_the_names_and_those_that_are_near():
    with pytest.raises(UserError, match=r"'tise'; did you mean ties") as error:
        get_operator("tise")
    assert all(name in str(error.value) for name in OPERATORS)


@pytest.mark.parametrize(("other", "name"), [("concat", "mean"), ("dare_linear", "dare")])
def test_operator_is_found_by_what_others_call_it(other, name):
    assert get_operator(other) is OPERATORS[name]


def test_operator_inside_another_is_made_from_its_name():
    op = get_operator("shuffled_layers:core_space:dare_ties")
    assert op.name == "shuffled_layers:core_space:dare_ties"
    assert op.hyperparameters.keys() >= {"drop", "basis"}
    assert op.needs_key
    with pytest.raises(UserError, match="no fusion operator 'median'"):
        get_operator("knots:median")
