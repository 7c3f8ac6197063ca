"""Fusion operators: pure functions that make one adapter of several. ``OPERATORS`` names them."""

from collections.abc import Iterable

from lorafuse_jax.fusion.distribution_matching import distribution_matching
from lorafuse_jax.fusion.mean import mean
from lorafuse_jax.fusion.operator import Operator, compose, operator, parse_settings
from lorafuse_jax.fusion.scaled_mean import scaled_mean
from lorafuse_jax.fusion.seedlora import kept_norm_share, seedlora
from lorafuse_jax.types import UserError

__all__ = [
    "OPERATORS",
    "Operator",
    "compose",
    "get_operator",
    "kept_norm_share",
    "operator",
    "parse_settings",
    "table_of",
]


def table_of(operators: Iterable[Operator]) -> dict[str, Operator]:
    """Operators by name.

    Raises:
        ValueError: two have the same name.
    """
    table: dict[str, Operator] = {}
    for op in operators:
        if op.name in table:
            raise ValueError(f"two operators are called {op.name!r}; rename one of them")
        table[op.name] = op
    return table


OPERATORS = table_of((mean, scaled_mean, distribution_matching, seedlora))


def get_operator(name: str) -> Operator:
    """The operator of that name.

    Raises:
        UserError: there is none; lists the names.
    """
    if name not in OPERATORS:
        raise UserError(f"there is no fusion operator {name!r}; there are {', '.join(OPERATORS)}")
    return OPERATORS[name]
