"""Between a module stacked over layers and one tensor a layer.

A Hugging Face module ``transformer.h.3.attn.c_attn`` is layer 3 of module path
``transformer/h/*/attn/c_attn``: the first number is the layer, a star takes its place, slashes join
the rest. ``model.layers.3.self_attn.q_proj`` has the short path ``layers/self_attn/q_proj``. A name
without a number, ``lm_head``, is its own path, with one layer; so is a name whose layer has other
shapes than its neighbours, ``down_blocks/1/attn/to_q``. ``model.embed_tokens`` has the short path
``embed_tokens``.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float

from lorafuse_jax.types import EMBEDDING, UserError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]*(\.[A-Za-z0-9_][A-Za-z0-9_\-]*)*")
_SHORT, _LONG = "layers/", "model/layers/*/"
_LONG_EMBEDDING = f"model/{EMBEDDING}"

Found = TypeVar("Found")


class LayerKey(NamedTuple):
    """Where a tensor belongs: module path and layer number."""

    module: str
    layer: int


def hf_name(module: str, layer: int) -> str:
    """``layers/self_attn/q_proj``, 3 -> ``model.layers.3.self_attn.q_proj``.

    Raises:
        UserError: no module path, or a layer other than 0 of a module without layers.
    """
    parts = _parts(module)
    if "*" not in parts and layer:
        raise UserError(f"module {module!r} has no layer {layer}: its path has no *")
    return ".".join(str(layer) if part == "*" else part for part in parts)


def parse_hf_name(name: str) -> LayerKey | None:
    """The inverse of ``hf_name``; None for what is no name of a module.

    ``layers.norm``, without a number, would be taken for the short path of ``model.layers.N.norm``
    and is no name either; nor is ``embed_tokens``, of a model without a head.
    """
    if not _NAME.fullmatch(name) or name.isdigit():
        return None
    parts = name.split(".")
    for place, part in enumerate(parts):
        if re.fullmatch(r"0|[1-9]\d*", part):
            path = "/".join([*parts[:place], "*", *parts[place + 1 :]])
            if path.startswith(_LONG):
                path = _SHORT + path.removeprefix(_LONG)
            return LayerKey(path, int(part))
    return own_path(name)


def own_path(name: str) -> LayerKey | None:
    """A module of one layer, whatever numbers are in its name; None where no path says that."""
    path = name.replace(".", "/")
    if path == _LONG_EMBEDDING:
        return LayerKey(EMBEDDING, 0)
    return None if path.startswith(_SHORT) or path == EMBEDDING else LayerKey(path, 0)


def split_uneven(
    found: Mapping[str, Mapping[int, Found]], shape_of: Callable[[Found], tuple[int, ...]]
) -> dict[str, dict[int, Found]]:
    """Layers of a module whose shapes differ become modules of their own.

    Raises:
        UserError: such a layer has no path.
    """
    even: dict[str, dict[int, Found]] = {}
    for module, by_layer in found.items():
        shapes = {layer: shape_of(one) for layer, one in by_layer.items()}
        if len(set(shapes.values())) == 1:
            even[module] = dict(by_layer)
            continue
        for layer, one in by_layer.items():
            where = own_path(hf_name(module, layer))
            if where is None:
                raise UserError(
                    f"layers of {module} have different shapes, {hf_name(module, layer)} "
                    f"{list(shapes[layer])}; that can only be read where names start with the "
                    "model, as in model.layers.0"
                )
            even[where.module] = {0: one}
    return even


def hf_pattern(module: str) -> str:
    """A regular expression for the names of all layers of a module."""
    return "^" + r"\.".join(r"\d+" if part == "*" else re.escape(part) for part in _parts(module))


def stack_of(module: str) -> str:
    """What modules of one stack of layers share: the path up to the star."""
    return _long(module).partition("*")[0]


def layers_in(found: Mapping[str, Mapping[int, object]]) -> dict[str, int]:
    """Module -> L: one more than the highest layer that is adapted anywhere in its stack."""
    highest: dict[str, int] = {}
    for module, by_layer in found.items():
        stack = stack_of(module)
        highest[stack] = max(highest.get(stack, 0), *by_layer)
    return {module: 1 + highest[stack_of(module)] for module in found}


def check_layered(module: str, leaf: Float[Array | jax.ShapeDtypeStruct, "..."], name: str) -> None:
    """Raise UserError unless the leaf has the three axes [L, ...] of one adapter."""
    if leaf.ndim != 3:
        raise UserError(
            f"{module}: {name} has shape {list(leaf.shape)}, an adapter on disk has three axes "
            "[L, ...]; take(stacked, member) picks one member"
        )


def check_finite(tensor: Float[Array | np.ndarray, "..."], name: str, where: object) -> None:
    """Raise UserError if there is NaN or infinity in it."""
    if not np.isfinite(np.asarray(tensor)).all():
        raise UserError(f"{where}: {name} has NaN or infinite entries; the training diverged?")


def _long(module: str) -> str:
    """The path with its star; ``layers/*/mlp``, of a model without a head, has one already."""
    if module == EMBEDDING:
        return _LONG_EMBEDDING
    short = module.startswith(_SHORT) and "*" not in module
    return _LONG + module.removeprefix(_SHORT) if short else module


def _parts(module: str) -> list[str]:
    parts = _long(module).split("/")
    rest = [part for part in parts if part != "*"]
    if len(parts) - len(rest) > 1 or not rest or not _NAME.fullmatch(".".join(rest)):
        raise UserError(
            f"cannot write module {module!r}: expected a path like layers/mlp/up_proj or "
            "transformer/h/*/attn/c_attn"
        )
    return parts
