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

SAMPLED_BYTES = 1 << 20
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]


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
    """sha256 over config.json and, of each weight file, its size and its first and last MiB."""
    digest = sha256((folder / "config.json").read_bytes())
    for file in weight_files(folder):
        size = file.stat().st_size
        with file.open("rb") as data:
            digest.update(f"{file.name}:{size}".encode())
            digest.update(data.read(SAMPLED_BYTES))
            data.seek(max(0, size - SAMPLED_BYTES))
            digest.update(data.read(SAMPLED_BYTES))
    return digest.hexdigest()


def _download(name: str) -> Path:
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(f"{name} is no folder with a model, and no hub name (owner/name)")
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception as error:
        raise UserError(
            f"{name} is no folder, and the hub did not give it ({type(error).__name__}: {error}); "
            "a local folder works without the hub"
        ) from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(f"{file.parent} holds no model: it has no {file.name}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is damaged: {error}") from None


def _load_tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} has no tokenizer that transformers can load: {error}") from None
