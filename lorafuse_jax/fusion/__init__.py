"""Fusion operators: pure functions that make one adapter of several. ``OPERATORS`` names them."""

from collections.abc import Iterable
from difflib import get_close_matches

from lorafuse_jax.fusion.control import CONTROLS
from lorafuse_jax.fusion.control.null_members import random_members, shuffled_layers
from lorafuse_jax.fusion.learned import LEARNED
from lorafuse_jax.fusion.linear import LINEAR
from lorafuse_jax.fusion.operator import Operator, compose, operator, parse_settings
from lorafuse_jax.fusion.seedlora import SEEDLORA, kept_norm_share
from lorafuse_jax.fusion.sparse import SPARSE
from lorafuse_jax.fusion.spectral import SPECTRAL
from lorafuse_jax.fusion.spectral.spaces import compress_then_merge, core_space, knots
from lorafuse_jax.types import UserError

__all__ = [
    "AROUND",
    "OPERATORS",
    "OTHER_NAMES",
    "Operator",
    "compose",
    "get_operator",
    "is_operator",
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


AROUND = {
    make.__name__: make
    for make in (core_space, knots, compress_then_merge, random_members, shuffled_layers)
}
"""What can stand before another operator's name, as in ``core_space:dare_ties``."""

OTHER_NAMES = {
    "concat": "mean",
    "cat": "mean",
    "linear": "mean",
    "weighted_sum": "mean",
    "uniform_soup": "mean",
    "norm_matched_mean": "scaled_mean",
    "dare_linear": "dare",
    "magnitude_prune": "magnitude_pruning",
}
"""What other libraries and papers call them; of PEFT's those that work on deltas."""


def get_operator(name: str) -> Operator:
    """The operator of that name: of ``OPERATORS``, another name of it, or ``AROUND:OPERATOR``.

    Raises:
        UserError: there is none; lists the names.
    """
    name = OTHER_NAMES.get(name, name)
    if name in OPERATORS:
        return OPERATORS[name]
    around, colon, inner = name.partition(":")
    if colon and around in AROUND:
        return AROUND[around](get_operator(inner))
    near = get_close_matches(name, [*OPERATORS, *OTHER_NAMES], n=3)
    raise UserError(
        f"there is no fusion operator {name!r}"
        + (f"; did you mean {' or '.join(near)}?" if near else "")
        + f"\nthere are {', '.join(OPERATORS)}\nand {', '.join(AROUND)} before another, as in "
        "core_space:dare_ties"
    )


def is_operator(name: str) -> bool:
    """Whether ``get_operator`` knows the name."""
    try:
        get_operator(name)
    except UserError:
        return False
    return True
