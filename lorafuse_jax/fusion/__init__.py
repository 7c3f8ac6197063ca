"""Fusion operators: pure functions that make one adapter of several. ``OPERATORS`` names them."""

from collections.abc import Iterable

from lorafuse_jax.fusion.control import CONTROLS
from lorafuse_jax.fusion.learned import LEARNED
from lorafuse_jax.fusion.linear import LINEAR
from lorafuse_jax.fusion.operator import Operator, compose, operator, parse_settings
from lorafuse_jax.fusion.seedlora import SEEDLORA, kept_norm_share
from lorafuse_jax.fusion.sparse import SPARSE
from lorafuse_jax.fusion.spectral import SPECTRAL
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


OPERATORS = table_of((*LINEAR, *CONTROLS, *SEEDLORA, *SPARSE, *SPECTRAL, *LEARNED))


def get_operator(name: str) -> Operator:
    """The operator of that name.

    Raises:
        UserError: there is none; lists the names.
    """
    if name not in OPERATORS:
        raise UserError(f"there is no fusion operator {name!r}; there are {', '.join(OPERATORS)}")
    return OPERATORS[name]
