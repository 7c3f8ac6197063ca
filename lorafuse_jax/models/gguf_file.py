"""A GGUF file (llama.cpp) as a checkpoint: configuration, tensors, tokenizer.

The configuration is put into the words of Hugging Face's, and the tensors get its names and
layouts, so that a family file serves both. Weights are dequantised as they are read.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np

from lorafuse_jax.models.config import DecoderConfig, FrequencyFactors
from lorafuse_jax.models.families import FAMILIES
from lorafuse_jax.models.filling import Index, StoredTensor
from lorafuse_jax.types import UserError

ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "gpt2": "gpt2",
}
"""llama.cpp's name -> Hugging Face's ``model_type``. Mistral's files call themselves llama."""

LARGEST_GEMMA = {"gemma2": 46, "gemma3": 62}
"""Layers of the 27B models, whose scores alone are scaled by D / N rather than H."""

ROPE_FACTORS = "rope_freqs.weight"

HANDLED = {
    "embedding_length",
    "feed_forward_length",
    "block_count",
    "context_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
}
GEMMA_HANDLED = {"attention.sliding_window", "final_logit_softcapping"}
HANDLED_BY = {
    "gemma2": GEMMA_HANDLED | {"attn_logit_softcapping"},
    "gemma3": GEMMA_HANDLED | {"attention.sliding_window_pattern", "rope.freq_base_swa"},
}
IGNORED = {
    "vocab_size",  # the embedding says it
    "tensor_data_layout",
    "rope.scaling.original_context_length",  # matters to the kinds that are refused
    "rope.scaling.finetuned",
}
"""Keys of an architecture (``llama.vocab_size``) that do not change what the model computes."""

Change = Callable[[np.ndarray], np.ndarray]


class GgufFile(NamedTuple):
    """An open file; its tensors stay on disk.

    Attributes:
        path: of the file.
        metadata: key -> value.
        architecture: llama.cpp's.
        tensors: name -> tensor.
    """

    path: Path
    metadata: dict[str, Any]
    architecture: str
    tensors: dict[str, gguf.ReaderTensor]


def open_gguf(path: Path) -> GgufFile:
    """Open a file.

    Raises:
        UserError: it is damaged, or of an architecture that is not supported.
    """
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, OSError, KeyError, IndexError) as error:
        raise UserError(f"{path} is no whole GGUF file ({error}); download it again") from None
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    if (parts := metadata.get("split.count", 1)) > 1:
        raise UserError(
            f"{path} is one of {parts} parts of a model; join them first "
            f"(llama-gguf-split --merge {path.name} whole.gguf)"
        )
    architecture = str(metadata.get("general.architecture"))
    if architecture not in ARCHITECTURES:
        raise UserError(
            f"{path}: architecture {architecture!r} is not supported; "
            f"{', '.join(ARCHITECTURES)} are"
        )
    return GgufFile(path, metadata, architecture, {t.name: t for t in reader.tensors})


def hf_config(file: GgufFile) -> dict[str, Any]:
    """What its config.json would say.

    Raises:
        UserError: a key that is not known, or of a value that this decoder does not have.
    """
    arch = file.architecture
    _check_keys(file)
    get = lambda key, default=None: file.metadata.get(f"{arch}.{key}", default)  # noqa: E731
    common = {
        "model_type": ARCHITECTURES[arch],
        "vocab_size": int(file.tensors["token_embd.weight"].shape[1]),
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }
    if arch == "gpt2":
        return common | {
            "n_embd": get("embedding_length"),
            "n_layer": get("block_count"),
            "n_head": get("attention.head_count"),
            "n_inner": get("feed_forward_length"),
            "n_positions": get("context_length"),
            "layer_norm_epsilon": _digits(get("attention.layer_norm_epsilon")),
        }
    heads = get("attention.head_count")
    config = common | {
        "hidden_size": get("embedding_length"),
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv", heads),
        "head_dim": get("attention.key_length", get("embedding_length") // heads),
        "max_position_embeddings": get("context_length"),
        "rms_norm_eps": _digits(get("attention.layer_norm_rms_epsilon")),
        "rope_theta": get("rope.freq_base", 1e6 if arch == "gemma3" else 10000.0),
        "rope_scaling": _rope_scaling(file, get),
    }
    if arch in ("llama", "qwen3"):
        config["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    if arch in LARGEST_GEMMA:
        largest = get("block_count") == LARGEST_GEMMA[arch]
        config |= {
            "query_pre_attn_scalar": config["hidden_size"] // heads
            if largest
            else config["head_dim"],
            "sliding_window": get("attention.sliding_window", 4096),
        }
    if arch == "gemma2":
        config["attn_logit_softcapping"] = get("attn_logit_softcapping", 50.0)
        config["final_logit_softcapping"] = get("final_logit_softcapping", 30.0)
    if arch == "gemma3":
        config["final_logit_softcapping"] = get("final_logit_softcapping")
        config["rope_local_base_freq"] = get("rope.freq_base_swa", 10000.0)
        config["sliding_window_pattern"] = get("attention.sliding_window_pattern", 6)
    return config


def _check_keys(file: GgufFile) -> None:
    """Raise UserError for a key of the architecture that would be overlooked."""
    arch, metadata = file.architecture, file.metadata
    keys = {name.removeprefix(f"{arch}."): name for name in metadata if name.startswith(f"{arch}.")}
    get = lambda key: metadata.get(f"{arch}.{key}")  # noqa: E731
    split = lambda: metadata[f"{arch}.embedding_length"] // metadata[f"{arch}.attention.head_count"]  # noqa: E731
    head_dim = get("attention.key_length") or split()
    required = {
        "rope.dimension_count": head_dim,
        "attention.value_length": head_dim,
        "attention.causal": True,
        "expert_count": 0,
        "expert_used_count": 0,
    }
    known = HANDLED | IGNORED | HANDLED_BY.get(arch, set())
    for key, name in keys.items():
        if key in required and metadata[name] != required[key]:
            raise UserError(
                f"{file.path}: {name} = {metadata[name]!r} is not supported, only {required[key]!r}"
            )
        if key not in required and key not in known:
            raise UserError(
                f"{file.path}: {name} = {metadata[name]!r} is not known here; it may change what "
                "the model computes, so it is not loaded"
            )


def with_rope_factors(file: GgufFile, config: DecoderConfig) -> DecoderConfig:
    """Llama 3's rotary scaling is stored as a tensor that frequencies are divided by."""
    if ROPE_FACTORS not in file.tensors:
        return config
    assert config.rope is not None
    factors = tuple(float(factor) for factor in _values(file.tensors[ROPE_FACTORS]))
    return replace(config, rope=replace(config.rope, scaling=FrequencyFactors(factors=factors)))


def stored_tensors(file: GgufFile) -> Iterator[StoredTensor]:
    """Every tensor under Hugging Face's name and in its layout.

    Raises:
        UserError: a tensor that has no place, or of a kind that the gguf package does not read.
    """
    names = _hf_names(file)
    for name, tensor in file.tensors.items():
        if name == ROPE_FACTORS:
            continue
        if name not in names:
            raise UserError(f"{file.path} holds a tensor that has no place here: {name}")
        _check_kind(file, tensor)
        shape = tuple(int(size) for size in reversed(tensor.shape))
        change = _change(file, name)
        if file.architecture == "gpt2" and len(shape) == 2 and name.startswith("blk."):
            shape = shape[::-1]
        read = partial(_read, tensor, change)
        yield StoredTensor(names[name], shape, file.path, read)


def _read(tensor: gguf.ReaderTensor, change: Change, index: Index) -> np.ndarray:
    """Only some rows are decoded where the order of rows is the file's."""
    if change is _as_it_is:
        return _values(tensor, index[0])[(slice(None), *index[1:])]
    return change(_values(tensor))[index]


def _hf_names(file: GgufFile) -> dict[str, str]:
    layers = file.metadata[f"{file.architecture}.block_count"]
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    table = gguf.get_tensor_name_map(kinds[file.architecture], layers)
    names = {}
    for rule in FAMILIES[ARCHITECTURES[file.architecture]].WEIGHTS:
        for layer in range(layers if "{layer}" in rule.hf else 1):
            hf = rule.hf.format(layer=layer)
            theirs = table.get_name(hf, try_suffixes=(".weight", ".bias"))
            if theirs is not None:
                names[theirs] = hf
    return names


def _change(file: GgufFile, name: str) -> Change:
    """From llama.cpp's layout to Hugging Face's."""
    arch = file.architecture
    if arch == "llama" and ".attn_q." in name:
        return partial(_unpermute, heads=file.metadata["llama.attention.head_count"])
    if arch == "llama" and ".attn_k." in name:
        return partial(_unpermute, heads=file.metadata["llama.attention.head_count_kv"])
    if arch in LARGEST_GEMMA and name.endswith("norm.weight"):
        return lambda values: values - 1
    if arch == "gpt2" and name.startswith("blk."):
        return np.transpose
    return _as_it_is


def _as_it_is(values: np.ndarray) -> np.ndarray:
    return values


def _unpermute(values: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's interleaving of the two rotary halves of each head."""
    halves = values.reshape(heads, len(values) // heads // 2, 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _values(tensor: gguf.ReaderTensor, rows: slice = slice(None)) -> np.ndarray:
    data = tensor.data[rows]
    values = gguf.quants.dequantize(data, tensor.tensor_type).astype(np.float32)
    return values.reshape([len(data), *(int(size) for size in reversed(tensor.shape[:-1]))])


def _check_kind(file: GgufFile, tensor: gguf.ReaderTensor) -> None:
    """Raise UserError if the tensor cannot be dequantised (tried on its first row)."""
    try:
        _values(tensor, slice(0, 1))
    except NotImplementedError:
        raise UserError(
            f"{file.path}: {tensor.name} is stored as {tensor.tensor_type.name}, which the gguf "
            "package cannot read"
        ) from None


def _rope_scaling(file: GgufFile, get: Callable[..., Any]) -> Mapping[str, Any] | None:
    kind = get("rope.scaling.type")
    if kind in (None, "none"):
        return None
    if kind != "linear":
        raise UserError(f"{file.path}: rope scaling {kind!r} is not supported, only linear")
    return {"rope_type": "linear", "factor": get("rope.scaling.factor")}


def _digits(value: float) -> float:
    """Stored in 32 bits: 1e-5 comes back as 9.999999747378752e-06."""
    return float(np.format_float_positional(np.float32(value), unique=True))
