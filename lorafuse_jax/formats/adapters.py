"""Any adapter on disk: PEFT's format if it is low-rank, dense tensors otherwise."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorafuse_jax.formats.dense import PROVENANCE_FILE, is_dense, load_dense, save_dense
from lorafuse_jax.formats.folder import read_json
from lorafuse_jax.formats.peft import load_peft, save_peft
from lorafuse_jax.formats.peft_config import CONFIG_FILE, read_peft_config
from lorafuse_jax.types import Adapter, LoraPair


def save_adapter(
    folder: Path,
    adapter: Adapter,
    *,
    base_model: str,
    provenance: dict[str, Any],
    carried: Mapping[str, Any] | None = None,
) -> None:
    """Write an adapter, whole or not at all, in the format for its kind.

    Args:
        folder: to be made; may be there if it is empty.
        adapter: leaves [L, ...]; one with both kinds is written dense.
        base_model: name or path of the model it belongs to.
        provenance: where it comes from, as JSON.
        carried: see ``save_peft``.

    Raises:
        UserError: the folder is taken, or the adapter is stacked or empty.
    """
    if all(isinstance(update, LoraPair) for update in adapter.values()):
        save_peft(folder, adapter, base_model=base_model, provenance=provenance, carried=carried)
    else:
        save_dense(folder, adapter, base_model=base_model, provenance=provenance)


def load_adapter(folder: Path) -> Adapter:
    """An adapter that ``save_adapter`` or PEFT wrote, leaves [L, ...].

    Raises:
        UserError: nothing readable is there.
    """
    return load_dense(folder) if is_dense(folder) else load_peft(folder)


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter of either kind."""
    return is_dense(folder) or (folder / CONFIG_FILE).exists()


def read_provenance(folder: Path) -> dict[str, Any]:
    """What was written about an adapter when it was saved; empty from another program.

    Raises:
        UserError: there is no adapter, or its configuration is damaged.
    """
    if is_dense(folder):
        return read_json(folder / PROVENANCE_FILE)
    return read_peft_config(folder, dora=True).provenance
