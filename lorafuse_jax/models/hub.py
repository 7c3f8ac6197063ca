"""A model by folder or hub name: configuration, parameters, tokenizer."""

import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from huggingface_hub import snapshot_download
from transformers import AutoTokenizer

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.families import FAMILIES
from lorafuse_jax.models.weights import load_params, weight_files
from lorafuse_jax.types import Params, UserError

PIECE = 1 << 16
PIECES = 1 << 10
"""A weight file is sampled in this many pieces of 64 KiB at most: read in full up to 64 MiB."""

HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
NOT_HUB_FILES = ["*/*", "consolidated*"]
"""Copies of the weights in other layouts, which several hub models carry along."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


@dataclass(frozen=True, eq=False)
class Model:
    """A base model.

    Attributes:
        config: shapes and switches.
        params: weights, layers stacked on axis L.
        tokenizer: transformers' tokenizer.
        path: the folder it came from.
        fingerprint: tells its weights from another model's.
    """

    config: DecoderConfig
    params: Params = field(repr=False)
    tokenizer: Any = field(repr=False)
    path: Path
    fingerprint: str


def load_model(path: str | Path, *, dtype: Any = None) -> Model:
    """Load a Hugging Face folder, or a hub name such as ``"HuggingFaceTB/SmolLM2-135M-Instruct"``.

    Args:
        path: a folder with config.json, safetensors and tokenizer; or a hub name.
        dtype: of the weights; by default float32 on CPU and bfloat16 elsewhere.

    Raises:
        UserError: something is missing, damaged, or not supported; nothing is skipped.
    """
    folder = Path(path)
    if not folder.is_dir():
        folder = _download(str(path))
    config = _read_json(folder / "config.json")
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None:
        raise UserError(
            f"{folder / 'config.json'}: model_type {config.get('model_type')!r} is not supported; "
            f"supported are {', '.join(sorted(FAMILIES))}"
        )
    if dtype is None:
        dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    decoder_config = family.config_from_hf(config)
    tokenizer = _load_tokenizer(folder)
    params = load_params(folder, decoder_config, family.WEIGHTS, dtype)
    return Model(decoder_config, params, tokenizer, folder, fingerprint(folder))


def fingerprint(folder: Path) -> str:
    """sha256 over config.json and, of each weight file, its size and evenly spaced pieces.

    The pieces lie so close that a change of any large matrix, not only of the first and last, is
    seen; hashing 14 GB in full would take longer than to load them.
    """
    digest = sha256((folder / "config.json").read_bytes())
    for file in weight_files(folder):
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


def _load_tokenizer(folder: Path) -> Any:
    # Without this check, transformers may make an empty tokenizer that encodes all text to nothing.
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise UserError(
            f"{folder} has no tokenizer (none of {', '.join(TOKENIZER_FILES)}); save it there with "
            "tokenizer.save_pretrained(folder)"
        )
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise whatever they meet
        raise UserError(
            f"{folder}: transformers cannot load its tokenizer ({type(error).__name__}: {error})"
        ) from error
