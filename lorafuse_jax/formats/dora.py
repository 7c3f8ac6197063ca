"""DoRA adapters in PEFT's format: a low-rank one with ``lora_magnitude_vector`` [O] a module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from lorafuse_jax.formats.folder import read_json
from lorafuse_jax.formats.layers import check_finite, parse_hf_name
from lorafuse_jax.formats.peft import pairs_in, save_peft
from lorafuse_jax.formats.peft_config import CONFIG_FILE, read_peft_config
from lorafuse_jax.formats.peft_layers import PeftLayers, weights_path
from lorafuse_jax.formats.peft_names import MAGNITUDE, PREFIX
from lorafuse_jax.formats.stored import find_tensors, read_tensor
from lorafuse_jax.types import DoraPair, LoraPair, UserError


def is_dora(folder: Path) -> bool:
    """Whether the folder holds a DoRA adapter."""
    config = folder / CONFIG_FILE
    return config.is_file() and bool(read_json(config).get("use_dora"))


def save_dora(
    folder: Path,
    adapter: Mapping[str, DoraPair],
    *,
    base_model: str,
    provenance: dict[str, Any],
    carried: Mapping[str, Any] | None = None,
) -> None:
    """Write an adapter that PEFT can load; see ``save_peft``.

    Args:
        folder: to be made; may be there if it is empty.
        adapter: leaves [L, ...], with the scale in ``lora_b``.
        base_model: name or path of the model it belongs to.
        provenance: where it comes from, as JSON.
        carried: see ``save_peft``.

    Raises:
        UserError: as ``save_peft``.
    """
    save_peft(
        folder,
        {module: LoraPair(update.lora_a, update.lora_b) for module, update in adapter.items()},
        base_model=base_model,
        provenance=provenance,
        carried=carried,
        magnitudes={module: update.magnitude for module, update in adapter.items()},
    )


def load_dora(folder: Path) -> dict[str, DoraPair]:
    """A DoRA adapter, leaves [L, ...], its scale folded into ``lora_b``.

    Raises:
        UserError: as ``load_peft``; or a magnitude is missing, or a layer is not adapted: its
            magnitude is its base's, which is not in the file.
    """
    config = read_peft_config(folder, dora=True)
    path = weights_path(folder)
    tensors = find_tensors(path)
    stored = {name: tensors.pop(name) for name in list(tensors) if name.endswith(MAGNITUDE)}
    magnitudes: dict[str, dict[int, np.ndarray]] = {}
    for name, at in stored.items():
        tensor = read_tensor(at)
        where = parse_hf_name(name.removeprefix(PREFIX).removesuffix(MAGNITUDE))
        if where is None:
            raise UserError(f"{path}: cannot use tensor {name!r}; it names no module")
        check_finite(tensor, name, path)
        magnitudes.setdefault(where.module, {})[where.layer] = np.asarray(tensor, np.float32)
    adapter = {}
    for module, pair in pairs_in(PeftLayers(config, path, tensors)).items():
        assert isinstance(pair, LoraPair)
        layers, fan_out = pair.lora_b.shape[0], pair.lora_b.shape[2]
        own = magnitudes.pop(module, {})
        if sorted(own) != list(range(layers)) or any(m.shape != (fan_out,) for m in own.values()):
            raise UserError(
                f"{path}: {module} needs a {MAGNITUDE.removeprefix('.')} of {fan_out} numbers for "
                f"each of {layers} layers"
            )
        adapter[module] = DoraPair(*pair, jnp.stack([own[layer] for layer in range(layers)]))
    if magnitudes:
        raise UserError(f"{path}: {next(iter(magnitudes))} has a magnitude and no lora_A, lora_B")
    return adapter
