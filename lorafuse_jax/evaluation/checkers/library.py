"""Libraries that only some checkers need."""

from importlib import import_module
from typing import Any

from lorafuse_jax.types import UserError

EXTRA = "pip install 'lorafuse-jax[eval]'"


def library(name: str, needed_by: str, remedy: str = EXTRA) -> Any:
    """A module of a library, imported.

    Raises:
        UserError: it, or something that it needs, is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"{needed_by} cannot do without {name} ({error}); {remedy}") from None
