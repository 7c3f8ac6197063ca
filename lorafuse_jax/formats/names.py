"""Module paths and layers to tensor names and back."""

import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from lorafuse_jax.types import UserError

LAYERS = "layers/"


def tensor_name(module: str, layer: int) -> str:
    """``layers/self_attn/q_proj``, 3 -> ``model.layers.3.self_attn.q_proj``."""
    inside = module.removeprefix(LAYERS).replace("/", ".")
    return f"model.layers.{layer}.{inside}"


def group_by_module(
    tensors: dict[str, np.ndarray], pattern: str, file: Path
) -> dict[tuple[str, str], list[np.ndarray]]:
    """Tensors by (module path, part), in the order of their layers.

    Args:
        tensors: by name.
        pattern: regular expression with groups ``layer``, ``module`` and ``part``.
        file: for messages.

    Raises:
        UserError: a name that does not fit, or a layer that is missing.
    """
    found: dict[tuple[str, str], dict[int, np.ndarray]] = defaultdict(dict)
    for name, tensor in tensors.items():
        match = re.fullmatch(pattern, name)
        if match is None:
            raise UserError(
                f"{file}: tensor {name} is no LoRA factor of a decoder layer; adapters with other "
                "parts (biases, heads, embeddings, DoRA) are not supported"
            )
        module = LAYERS + match["module"].replace(".", "/")
        found[module, match["part"]][int(match["layer"])] = tensor
    layers = 1 + max((layer for parts in found.values() for layer in parts), default=-1)
    for (module, part), parts in found.items():
        missing = sorted(set(range(layers)) - parts.keys())
        if missing:
            raise UserError(
                f"{file}: {module} has no {part} in layer {missing[0]}; an adapted module must be "
                "adapted in all layers"
            )
    return {key: [parts[n] for n in range(layers)] for key, parts in found.items()}
