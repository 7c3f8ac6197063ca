"""What an operator can be told: the keyword-only parameters of its function, checked and parsed.

A hyper-parameter is annotated with ``float``, ``int``, ``bool``, ``None``, a ``Literal`` of strings
or a union of these. ``Real`` also takes a traced number, so that it can be swept under vmap.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.types import UserError

Real: TypeAlias = float | Float[Array, ""]
"""A number that may be traced."""

NOT_HYPERPARAMETERS = ("weights", "key", "statistic")


@dataclass(frozen=True)
class Hyperparameter:
    """One setting of an operator.

    Attributes:
        name: the keyword.
        annotation: the type it was declared with.
        default: what holds when it is not given.
    """

    name: str
    annotation: Any
    default: Any

    def __str__(self) -> str:
        """As it is listed in messages: ``quantile: float = 0.9``."""
        kinds = [kind for kind in map(_describe, _alternatives(self.annotation)) if kind]
        return f"{self.name}: {' | '.join(kinds)} = {_show(self.default)}"

    @property
    def takes_arrays(self) -> bool:
        """Whether it may be traced, to be swept under vmap or learned."""
        return any(not _describe(kind) for kind in _alternatives(self.annotation))

    def check(self, value: Any) -> Any:
        """The value, as the declared type.

        Raises:
            UserError: it is of another type, or not one of the choices.
        """
        for kind in _alternatives(self.annotation):
            if _is_a(value, kind):
                return float(value) if kind is float else value
        raise UserError(f"{self.name} cannot be {value!r}; expected {self}")

    def parse(self, text: str) -> Any:
        """The value that a command line means by ``text``.

        Raises:
            UserError: no alternative of the declared type reads like this.
        """
        for kind in _alternatives(self.annotation):
            value = _parse_as(text.strip(), kind)
            if value is not _UNREADABLE:
                return value
        raise UserError(f"{self.name} cannot be {text!r}; expected {self}")


def hyperparameters_of(fn: Callable[..., Any]) -> dict[str, Hyperparameter]:
    """The keyword-only parameters of an operator's function, besides what all have."""
    return {
        name: Hyperparameter(name, parameter.annotation, parameter.default)
        for name, parameter in inspect.signature(fn).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in NOT_HYPERPARAMETERS
    }


def check_share(name: str, value: Real, *, below_one: bool = False) -> None:
    """Raise UserError unless the value is in [0, 1]; a traced number cannot be looked at.

    Args:
        name: operator and hyper-parameter, for the message.
        value: what it was given.
        below_one: 1 itself is too much.
    """
    if isinstance(value, jax.core.Tracer):
        return
    if not 0 <= value <= 1 or (below_one and value == 1):
        end = ")" if below_one else "]"
        raise UserError(f"{name} = {float(value):g} is not possible: expected [0, 1{end}")


_UNREADABLE = object()


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _describe(kind: Any) -> str:
    """Empty for array types: nobody types one."""
    if get_origin(kind) is Literal:
        return " | ".join(get_args(kind))
    if kind is NoneType:
        return "none"
    return kind.__name__ if kind in (float, int, bool) else ""


def _show(value: Any) -> str:
    return "none" if value is None else str(value)


def _is_a(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if kind in (int, float):
        accepted = int if kind is int else (int, float)
        return isinstance(value, accepted) and not isinstance(value, bool)
    if kind in (bool, NoneType):
        return isinstance(value, kind)
    return isinstance(value, jax.Array) and jnp.issubdtype(value, jnp.floating) and not value.shape


def _parse_as(text: str, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return text if text in get_args(kind) else _UNREADABLE
    if kind is NoneType:
        return None if text.lower() == "none" else _UNREADABLE
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), _UNREADABLE)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return _UNREADABLE
    return _UNREADABLE
