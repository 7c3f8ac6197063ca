"""A model by folder or hub name: configuration, parameters, tokenizer."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from huggingface_hub import snapshot_download

from lorafuse_jax.models import gguf_file
from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.families import FAMILIES
from lorafuse_jax.models.quantized import QUANTIZATIONS
from lorafuse_jax.models.safetensors_folder import stored_tensors, weight_files
from lorafuse_jax.models.tokenizer import gguf_tokenizer, load_tokenizer
from lorafuse_jax.models.weights import load_params
from lorafuse_jax.types import Params, UserError

PIECE = 1 << 16
PIECES = 1 << 10
"""A weight file is sampled in this many pieces of 64 KiB at most: read in full up to 64 MiB."""

WEIGHT_TYPES = ("float32", "bfloat16", "float16")

HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
NOT_HUB_FILES = ["*/*", "consolidated*"]
"""Copies of the weights in other layouts, which several hub models carry along."""

Shardings = Mapping[str, Any] | Callable[[DecoderConfig], Mapping[str, Any]] | None


@dataclass(frozen=True, eq=False)
class Model:
    """A base model.

    Attributes:
        config: shapes and switches.
        params: weights, layers stacked on axis L.
        tokenizer: transformers' tokenizer.
        path: the folder it came from.
        fingerprint: tells its weights from another model's.
        stop_tokens: end an answer: the tokenizer's end of text, and those of generation_config.json
            (chat models end a turn with another one).
        family: module of ``models.families``.
    """

    config: DecoderConfig
    params: Params = field(repr=False)
    tokenizer: Any = field(repr=False)
    path: Path
    fingerprint: str
    stop_tokens: tuple[int, ...]
    family: ModuleType = field(repr=False)


def load_model(
    path: str | Path,
    *,
    dtype: Any = None,
    quantization: str | None = None,
    shardings: Shardings = None,
) -> Model:
    """Load a Hugging Face folder, a GGUF file, or a hub name (``"HuggingFaceTB/SmolLM2-135M"``).

    Args:
        path: a folder with config.json, safetensors and tokenizer; a file that ends in ``.gguf``;
            or a hub name.
        dtype: of the weights: float32, bfloat16 or float16; by default float32 on CPU and bfloat16
            elsewhere.
        quantization: keep the kernels of the layers in 8 bits (``int8``, a scale a channel) or in 4
            (``nf4``, as QLoRA); embeddings, norms and head stay as they are.
        shardings: where a parameter goes, by path, or what says so for a configuration; see
            ``weights.load_params``.

    Raises:
        UserError: something is missing, damaged, or not supported, or does not fit into memory;
            nothing is skipped.
    """
    chosen = next((known for known in QUANTIZATIONS if known == quantization), None)
    if quantization is not None and chosen is None:
        raise UserError(
            f"quantization {quantization!r} is not known; {', '.join(QUANTIZATIONS)} are"
        )
    dtype = weight_type(dtype)
    path = Path(path)
    if path.suffix == ".gguf" and path.is_file():
        family, config, stored, tokenizer, stops = _open_gguf(path)
    else:
        if not path.is_dir():
            path = _download(str(path))
        family, config, stored, tokenizer, stops = _open_folder(path)
    check_vocabulary(tokenizer, config.vocab_size, path)
    params = load_params(
        stored,
        config,
        family.WEIGHTS,
        dtype,
        quantization=chosen,
        shardings=shardings(config) if callable(shardings) else shardings,
        where=path,
    )
    return Model(config, params, tokenizer, path, fingerprint(path), stops, family)


def weight_type(wanted: Any) -> Any:
    """A type for weights; by default float32 on CPU and bfloat16 elsewhere.

    Raises:
        UserError: weights cannot be of this type.
    """
    if wanted is None:
        return jnp.dtype(jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    try:
        found = jnp.dtype(wanted)
    except TypeError:
        found = None
    if found is None or found.name not in WEIGHT_TYPES:
        raise UserError(f"weights cannot be {wanted}; {', '.join(WEIGHT_TYPES)} serve")
    return found


def config_of_folder(folder: Path) -> tuple[ModuleType, DecoderConfig]:
    """Family and configuration of a Hugging Face folder, of which config.json alone is read.

    Raises:
        UserError: there is none, or it is damaged or not supported.
    """
    file = folder / "config.json"
    described = _read_json(file)
    family = FAMILIES.get(str(described.get("model_type")))
    if family is None:
        raise UserError(
            f"{file}: model_type {described.get('model_type')!r} is not "
            f"supported; supported are {', '.join(sorted(FAMILIES))}"
        )
    with _blamed_on(file):
        return family, family.config_from_hf(described)


def _open_folder(folder: Path):
    family, config = config_of_folder(folder)
    tokenizer = load_tokenizer(folder)
    generation = folder / "generation_config.json"
    more = _read_json(generation).get("eos_token_id") if generation.exists() else None
    stops = stop_tokens(tokenizer, more)
    return family, config, stored_tensors(folder), tokenizer, stops


def _open_gguf(path: Path):
    file = gguf_file.open_gguf(path)
    with _blamed_on(path):
        described = gguf_file.hf_config(file)
        family = FAMILIES[described["model_type"]]
        config = gguf_file.with_rope_factors(file, family.config_from_hf(described))
        tokenizer = gguf_tokenizer(path, file.metadata)
    stops = stop_tokens(tokenizer, file.metadata.get("tokenizer.ggml.eot_token_id"))
    return family, config, gguf_file.stored_tensors(file), tokenizer, stops


@contextmanager
def _blamed_on(file: Path) -> Iterator[None]:
    """What a value of another kind than expected does to the code that reads it, as a UserError."""
    try:
        yield
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"{file} is damaged: a value is missing or not of its kind "
            f"({type(error).__name__}: {error})"
        ) from error


def stop_tokens(tokenizer: Any, more: int | list[int] | None) -> tuple[int, ...]:
    """What ends an answer: the tokenizer's end of text, and those that the model names."""
    named = more if isinstance(more, list) else [more]
    return tuple(sorted({t for t in [tokenizer.eos_token_id, *named] if t is not None}))


def check_vocabulary(tokenizer: Any, vocab_size: int, where: Path) -> None:
    """Raise UserError if the tokenizer is that of a model with more embeddings.

    Tokens that were added to it may lie beyond the model's: Gemma's tokenizer has one for images
    that the text models lack. Whoever uses one of those is told so then.
    """
    if tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"{where}: the tokenizer has {tokenizer.vocab_size} tokens, the model only "
            f"{vocab_size} embeddings; it is another model's tokenizer"
        )


def fingerprint(path: Path) -> str:
    """sha256 over config.json and, of each weight file, its size and evenly spaced pieces.

    The pieces lie so close that a change of any large matrix, not only of the first and last, is
    seen; hashing 14 GB in full would take longer than to load them.
    """
    digest = sha256()
    if path.is_dir():
        digest.update((path / "config.json").read_bytes())
    for file in weight_files(path) if path.is_dir() else [path]:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as data:
            for start in range(0, size, max(PIECE, -(-size // PIECES))):
                data.seek(start)
                digest.update(data.read(PIECE))
    return digest.hexdigest()


def _download(name: str) -> Path:
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(f"{name} is no folder with a model, and no hub name (owner/name)")
    try:
        return Path(
            snapshot_download(name, allow_patterns=HUB_FILES, ignore_patterns=NOT_HUB_FILES)
        )
    except Exception as error:
        raise UserError(
            f"{name} is no folder, and the hub did not give it ({type(error).__name__}: {error}); "
            "a local folder works without the hub"
        ) from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(f"{file.parent} holds no model: it has no {file.name}") from None
    except ValueError as error:
        raise UserError(f"{file} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} is damaged: it holds no JSON object")
    return content
