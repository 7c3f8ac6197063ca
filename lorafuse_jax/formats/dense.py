"""Dense deltas, which PEFT has no format for: one safetensors file and its provenance."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from lorafuse_jax.adapter import to_delta
from lorafuse_jax.formats.folder import read_tensors, whole_folder
from lorafuse_jax.formats.names import group_by_module, tensor_name
from lorafuse_jax.types import Adapter, DenseDelta

DENSE_FILE = "delta.safetensors"
PATTERN = r"model\.layers\.(?P<layer>\d+)\.(?P<module>[\w.]+)\.(?P<part>delta)"


def save_dense(
    folder: Path, adapter: Adapter, *, base_model: str, provenance: dict[str, Any]
) -> None:
    """Write ``model.layers.N.MODULE.delta`` [I, O] of every module and layer."""
    tensors = {
        f"{tensor_name(module, layer)}.delta": np.ascontiguousarray(delta)
        for module, update in to_delta(adapter).items()
        for layer, delta in enumerate(np.asarray(update[0]))
    }
    with whole_folder(folder, {"base_model": base_model, **provenance}) as temporary:
        save_file(tensors, temporary / DENSE_FILE)


def load_dense(folder: Path) -> Adapter:
    """Read what ``save_dense`` wrote."""
    file = folder / DENSE_FILE
    grouped = group_by_module(read_tensors(file), PATTERN, file)
    return {module: DenseDelta(jnp.asarray(np.stack(ts))) for (module, _), ts in grouped.items()}
