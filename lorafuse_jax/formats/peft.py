"""Low-rank adapters in PEFT's format: ``adapter_config.json`` and ``adapter_model.safetensors``.

What PEFT keeps is the transposes of ours, a layer at a time, and a scale alpha / r. Our adapters
are stacked over layers and carry no scale: we write lora_alpha = r, which makes PEFT's scale 1.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lorafuse_jax.formats.folder import new_folder, write_json
from lorafuse_jax.formats.layers import LayerKey, check_layered, hf_name, hf_pattern
from lorafuse_jax.formats.peft_config import CONFIG_FILE, peft_config_json
from lorafuse_jax.formats.peft_layers import WEIGHTS_FILE, Factors, PeftLayers, open_peft
from lorafuse_jax.formats.peft_names import MAGNITUDE, PREFIX, tensor_name
from lorafuse_jax.formats.pieces import Piece, pieces_of
from lorafuse_jax.formats.targets import SELECTING, selection_of
from lorafuse_jax.formats.tensor_file import Form, TensorFile, settle
from lorafuse_jax.types import Adapter, LoraPair, UserError

SERVED_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's max_lora_rank."""
_DRAFT = "draft.safetensors"


def save_peft(
    folder: Path,
    adapter: Adapter,
    *,
    base_model: str,
    provenance: dict[str, Any],
    carried: Mapping[str, Any] | None = None,
    pad_rank: bool = False,
    magnitudes: Mapping[str, Float[Array, "L O"]] | None = None,
) -> None:
    """Write an adapter that PEFT can load, whole or not at all.

    Trailing directions whose factors are both zero, which only pad a layer to the rank of others,
    are not written, nor are layers of nothing else. The same adapter gives the same bytes.

    Args:
        folder: to be made; may be there if it is empty.
        adapter: LoraPairs with leaves [L, I, R] and [L, R, O].
        base_model: name or path of the model it belongs to.
        provenance: where it comes from, as JSON; goes into ``adapter_config.json``.
        carried: of the ``PeftConfig`` of what it was made of; where it says which modules are
            adapted and that still holds, it is written as it is. Without, all are named in full.
        pad_rank: write all modules with the next rank that vLLM can serve, padded with zeros.
        magnitudes: DoRA's, of every module; see ``save_dora``.

    Raises:
        UserError: the folder is taken, an update is not one LoraPair, all of it is zero, or the
            rank is above what can be served.
    """
    about = {"base_model": base_model, "provenance": provenance, "carried": carried}
    pieces = pieces_of(adapter)
    write_peft(folder, adapter, pieces, **about, pad_rank=pad_rank, magnitudes=magnitudes)


def write_peft(
    folder: Path,
    like: Adapter,
    pieces: Iterable[Piece],
    *,
    base_model: str,
    provenance: dict[str, Any],
    carried: Mapping[str, Any] | None = None,
    pad_rank: bool = False,
    magnitudes: Mapping[str, Float[Array, "L O"]] | None = None,
) -> None:
    """As ``save_peft``, of an adapter that comes in pieces: one of them is in memory at a time.

    Where a layer has a smaller rank than ``like`` says, or is padded, the file is written twice.

    Args:
        folder: to be made; may be there if it is empty.
        like: the adapter that will come, or the shapes and types of its leaves.
        pieces: all of it.
        base_model: see ``save_peft``, as of the rest.
        provenance: see there.
        carried: see there.
        pad_rank: see there.
        magnitudes: see there.

    Raises:
        UserError: as ``save_peft``.
        OSError: there is no room on the disk, which is taken before the first piece is asked for.
    """
    forms = _forms(like, magnitudes)
    left_out: list[LayerKey] = []
    ranks: dict[LayerKey, int] = {}
    with new_folder(folder) as whole:
        with TensorFile(whole / _DRAFT, forms) as draft:
            for key, factors in _layers_of(pieces):
                if factors is None:
                    left_out.append(key)
                    continue
                ranks[key] = factors.lora_a.shape[1]
                _put(draft, key, factors, magnitudes)
        if not ranks:
            raise UserError("the adapter is empty or all zero: nothing to save")
        rank = max(ranks.values())
        if pad_rank:
            rank = _served_rank(rank)
            ranks = dict.fromkeys(ranks, rank)
        settle(draft, whole / WEIGHTS_FILE, _with_ranks(draft, ranks))
        about = {k: v for k, v in (carried or {}).items() if k not in SELECTING}
        about |= selection_of(ranks, left_out, carried or {})
        config = peft_config_json(base_model, rank, _rank_patterns(ranks, rank), about, provenance)
        config["use_dora"] = magnitudes is not None
        write_json(whole / CONFIG_FILE, config)


def load_peft(folder: Path) -> Adapter:
    """A PEFT adapter as LoraPairs [L, I, R], [L, R, O], its scale folded into ``lora_b``.

    Layers that are not adapted are zeros, and smaller ranks are padded with zeros: exact both. Of
    its dtype see ``PeftLayers``.

    Raises:
        UserError: something is missing, damaged, not finite or beyond a plain low-rank update;
            names it.
    """
    return pairs_in(open_peft(folder))


def pairs_in(file: PeftLayers) -> Adapter:
    """As ``load_peft``, of an open adapter."""
    return {
        module: _stack_layers({at: file.read(module, at) for at in file.adapted(module)}, layers)
        for module, layers in file.layers.items()
    }


def _forms(like: Adapter, magnitudes: Mapping[str, Any] | None) -> dict[str, Form]:
    """Name -> shape and type of all that may have to be written."""
    forms: dict[str, Form] = {}
    for module, update in like.items():
        if not isinstance(update, LoraPair):
            raise UserError(f"{module} is dense, PEFT's format is low-rank; use save_adapter")
        for name, leaf in zip(update._fields, update, strict=True):
            check_layered(module, leaf, name)
        layers, fan_in, rank = update.lora_a.shape
        fan_out, dtype = update.lora_b.shape[-1], np.dtype(update.lora_a.dtype)
        for layer in range(layers):
            name = hf_name(module, layer)
            forms[tensor_name(name, "lora_A")] = Form((rank, fan_in), dtype)
            forms[tensor_name(name, "lora_B")] = Form((fan_out, rank), dtype)
            if magnitudes is not None:
                own = np.dtype(magnitudes[module].dtype)
                forms[PREFIX + name + MAGNITUDE] = Form((fan_out,), own)
    return forms


def _layers_of(pieces: Iterable[Piece]) -> Iterator[tuple[LayerKey, Factors | None]]:
    """Layer by layer, without what only pads; None of one that is zero."""
    for module, first, update in pieces:
        assert isinstance(update, LoraPair)
        for layer, factors in enumerate(zip(*map(np.asarray, update), strict=True), first):
            lora_a, lora_b = factors
            used = (lora_a != 0).any(0) | (lora_b != 0).any(1)
            rank = int(used.nonzero()[0][-1]) + 1 if used.any() else 0
            yield (
                LayerKey(module, layer),
                Factors(lora_a[:, :rank], lora_b[:rank]) if rank else None,
            )


def _put(
    draft: TensorFile, key: LayerKey, factors: Factors, magnitudes: Mapping[str, Any] | None
) -> None:
    name = hf_name(*key)
    draft.put(tensor_name(name, "lora_A"), factors.lora_a.T)
    draft.put(tensor_name(name, "lora_B"), factors.lora_b.T)
    if magnitudes is not None:
        draft.put(PREFIX + name + MAGNITUDE, np.asarray(magnitudes[key.module][key.layer]))


def _with_ranks(draft: TensorFile, ranks: Mapping[LayerKey, int]) -> dict[str, Form]:
    """What was written, with these ranks."""
    forms = {name: draft.forms[name] for name in draft.written}
    for key, rank in ranks.items():
        name = hf_name(*key)
        name_a, name_b = tensor_name(name, "lora_A"), tensor_name(name, "lora_B")
        forms[name_a] = Form((rank, forms[name_a].shape[1]), forms[name_a].dtype)
        forms[name_b] = Form((forms[name_b].shape[0], rank), forms[name_b].dtype)
    return forms


def _rank_patterns(ranks: Mapping[LayerKey, int], rank: int) -> dict[str, int]:
    """For modules of another rank; before them, for layers of another rank than their module."""
    by_module: dict[str, Counter[int]] = defaultdict(Counter)
    for (module, _), own in ranks.items():
        by_module[module][own] += 1
    usual = {module: counts.most_common(1)[0][0] for module, counts in by_module.items()}
    patterns = {
        "^" + re.escape(hf_name(*key)): own
        for key, own in ranks.items()
        if own != usual[key.module]
    }
    return patterns | {hf_pattern(module): own for module, own in usual.items() if own != rank}


def _served_rank(rank: int) -> int:
    for served in SERVED_RANKS:
        if rank <= served:
            return served
    raise UserError(f"rank {rank} is above {SERVED_RANKS[-1]}, the most that vLLM serves")


def _stack_layers(pairs: Mapping[int, Factors], layers: int) -> LoraPair:
    rank = max(pair.lora_a.shape[1] for pair in pairs.values())
    first = next(iter(pairs.values()))
    dtype = jnp.result_type(*(leaf for pair in pairs.values() for leaf in pair))
    lora_a = np.zeros((layers, first.lora_a.shape[0], rank), dtype)
    lora_b = np.zeros((layers, rank, first.lora_b.shape[1]), dtype)
    for layer, pair in pairs.items():
        lora_a[layer, :, : pair.lora_a.shape[1]] = pair.lora_a
        lora_b[layer, : pair.lora_b.shape[0]] = pair.lora_b
    return LoraPair(jnp.asarray(lora_a), jnp.asarray(lora_b))
