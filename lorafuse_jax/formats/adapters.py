"""Any adapter on disk: PEFT's format if it is low-rank, dense tensors otherwise."""

from pathlib import Path
from typing import Any

from lorafuse_jax.adapter import to_delta
from lorafuse_jax.formats.dense import DELTA_FILE, load_dense, save_dense
from lorafuse_jax.formats.peft import load_peft, save_peft
from lorafuse_jax.types import Adapter, LoraPair


def save_adapter(
    folder: Path, adapter: Adapter, *, base_model: str, provenance: dict[str, Any]
) -> None:
    """Write an adapter, whole or not at all, in the format for its kind.

    Args:
        folder: to be made; may be there if it is empty.
        adapter: leaves [L, ...]; one with both kinds is written dense.
        base_model: name or path of the model it belongs to.
        provenance: where it comes from, as JSON.

    Raises:
        UserError: the folder is taken, or the adapter is stacked or empty.
    """
    if all(isinstance(update, LoraPair) for update in adapter.values()):
        save_peft(folder, adapter, base_model=base_model, provenance=provenance)
    else:
        save_dense(folder, to_delta(adapter), base_model=base_model, provenance=provenance)


def load_adapter(folder: Path) -> Adapter:
    """An adapter that ``save_adapter`` or PEFT wrote, leaves [L, ...].

    Raises:
        UserError: nothing readable is there.
    """
    return load_dense(folder) if (folder / DELTA_FILE).exists() else load_peft(folder)
