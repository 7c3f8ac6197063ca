"""Train N LoRA adapters at once, fuse them, and see with paired statistics whether it helped."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorafuse_jax.api import *

__all__ = [
    "OPERATORS",
    "Adapter",
    "DenseDelta",
    "LoraPair",
    "LoraRule",
    "Model",
    "Params",
    "UserError",
    "compose",
    "compress",
    "cosine",
    "fetch",
    "forward",
    "generate",
    "get_operator",
    "init_adapter",
    "load_adapter",
    "load_model",
    "merge_into",
    "norm",
    "save_adapter",
    "stack",
    "take",
    "to_delta",
]


def __getattr__(name: str) -> Any:
    """Read the library when it is first used: lorafuse doctor also speaks where jax is broken."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("lorafuse_jax.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
