"""One way to save and load an adapter of either kind."""

from pathlib import Path
from typing import Any

from lorafuse_jax.formats.dense import DENSE_FILE, load_dense, save_dense
from lorafuse_jax.formats.peft import load_peft, save_peft
from lorafuse_jax.types import Adapter, DenseDelta


def save_adapter(
    folder: Path, adapter: Adapter, *, base_model: str, provenance: dict[str, Any]
) -> None:
    """Write a low-rank adapter as PEFT does, a dense one as ``delta.safetensors``.

    Raises:
        UserError: the folder is there already and not empty.
    """
    dense = any(isinstance(update, DenseDelta) for update in adapter.values())
    save = save_dense if dense else save_peft
    save(folder, adapter, base_model=base_model, provenance=provenance)


def load_adapter(folder: Path) -> Adapter:
    """Read what ``save_adapter`` or PEFT wrote; leaves [L, ...], the scale folded in.

    Raises:
        UserError: it is missing, damaged, or of a kind that is not supported.
    """
    return load_dense(folder) if (folder / DENSE_FILE).exists() else load_peft(folder)
