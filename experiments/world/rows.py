"""The rows of the table: every fusion operator and control, and the settings to choose from.

The first of a row's settings is the operator's default. All others are chosen among by held-out
loss, once, on groups of seeds that are in no test.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lorafuse_jax.fusion import get_operator
from lorafuse_jax.types import Adapter

Settings = Mapping[str, Any]
KEY = 20261127
"""Of the stochastic operators; every group folds its number into it."""


class Row(NamedTuple):
    """One way to make one adapter of a group.

    Attributes:
        operator: its name.
        settings: to choose from.
        about: for the table, where the name does not say it.
    """

    operator: str
    settings: tuple[Settings, ...] = ({},)
    about: str = ""


def grid(**values: tuple[Any, ...]) -> tuple[Settings, ...]:
    """All combinations, after the default settings."""
    combined: list[dict[str, Any]] = [{}]
    for name, choices in values.items():
        combined = [one | {name: choice} for one in combined for choice in choices]
    return ({}, *combined)


FACTORS = (0.5, 0.75, 1.25, 1.5, 2.0, 3.0)
THIRDS = (0.2, 0.5, 0.8)
QUANTILES = (0.8, 0.9, 0.95, 0.99)
ROWS: dict[str, Row] = {
    "mean": Row("mean"),
    "mean, norm matched": Row("scaled_mean"),
    "mean, scale chosen": Row("scaled_mean", ({"factor": 1.0}, *grid(factor=FACTORS)[1:])),
    "one seed, scale chosen": Row("scaled_member", grid(factor=FACTORS)),
    "version 1": Row("distribution_matching", ({}, {"scope": "global"})),
    "version 2, default": Row("seedlora"),
    "version 2": Row("seedlora", grid(quantile=QUANTILES, minimum_large=(1, 2))),
    "version 2, stage 1 alone": Row(
        "seedlora", grid(stages=("1",), quantile=QUANTILES, minimum_large=(1, 2))[1:]
    ),
    "version 2, stage 2 alone": Row(
        "seedlora", grid(stages=("2",), subspace=("r", "2r"), fuse=("mean", "ties", "dare"))[1:]
    ),
    "svd of the mean": Row("svd"),
    "factors averaged": Row("factor_mean", about="A and B apart, for comparison"),
    "ties": Row("ties", grid(density=THIRDS, factor=(0.5, 1.0, 2.0))),
    "dare": Row("dare", grid(drop=THIRDS)),
    "dare_ties": Row("dare_ties", grid(drop=THIRDS)),
    "della": Row("della", grid(drop=THIRDS)),
    "breadcrumbs": Row("breadcrumbs", grid(density=(0.5, 0.9), factor=(1.0, 2.0))),
    "magnitude_pruning": Row("magnitude_pruning", grid(density=(0.5, 0.8))),
    "sce": Row("sce", grid(density=(0.2, 0.5))),
    "parameter_selection": Row("parameter_selection"),
    "model_stock": Row("model_stock", ({}, {"scope": "global"})),
    "karcher": Row("karcher", ({}, {"scope": "global"})),
    "knots:ties": Row("knots:ties", grid(density=THIRDS, factor=(1.0, 2.0))),
    "core_space:ties": Row("core_space:ties", grid(density=THIRDS, factor=(1.0, 2.0))),
    "compress_then_merge": Row("compress_then_merge:mean"),
    "tsv": Row("tsv", grid(factor=(0.5, 1.5, 2.0, 3.0))),
    "iso": Row("iso", grid(factor=(0.5, 1.5, 2.0, 3.0))),
    "lego": Row("lego", ({}, {"units": "svd"})),
    "seedft": Row("seedft", ({}, {"share": 0.75}, {"share": 1.0}, {"rescale": False})),
    "pome": Row("pome", grid(share=(0.25, 0.5, 0.75), factor=(0.75, 1.0, 1.25)), "of one seed"),
    "random members": Row("random_members:mean", about="null control: noise of the same norms"),
    "layers shuffled": Row("shuffled_layers:mean", about="null control"),
}
STATISTICAL = ("fisher", "regmean")
"""Operators that look at data as well."""


def fuse(row: Row, settings: Settings, stacked: Adapter, group: int) -> Adapter:
    """One group's adapter of a row.

    Args:
        row: of ``ROWS``.
        settings: one of its, or chosen among them.
        stacked: the members, leaves [S, L, ...].
        group: its number, for stochastic operators.
    """
    op = get_operator(row.operator)
    numbers = {name: value for name, value in settings.items() if name in op.numbers}
    choices = {name: value for name, value in settings.items() if name not in numbers}
    program = _program(row.operator, tuple(sorted(choices.items())))
    return program(stacked, jnp.asarray(group), {k: jnp.asarray(v) for k, v in numbers.items()})


@lru_cache(None)
def _program(name: str, choices: tuple[tuple[str, Any], ...]) -> Any:
    """Compiled once for all groups and all numbers."""
    op = get_operator(name)

    def run(stacked: Adapter, group: jax.Array, numbers: dict[str, jax.Array]) -> Adapter:
        key = jax.random.fold_in(jax.random.key(KEY), group) if op.stochastic else None
        settings: dict[str, Any] = dict(choices) | numbers
        return op(stacked, key=key, **settings)

    return jax.jit(run)
