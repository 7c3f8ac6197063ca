"""Tokenised data kept on disk, under the hash of all that it depends on.

A file is the sha256 of what follows, and a safetensors image. One that is not whole, or was
changed, is as good as absent. Files are written beside their place and renamed.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
import transformers
from safetensors.numpy import load as load_image
from safetensors.numpy import save as save_image

from lorafuse_jax.data.rows import Example
from lorafuse_jax.data.templates import TEXT_TEMPLATES

FORMAT = 1
"""To be raised whenever the same example gives other tokens or losses than before."""

DIGEST_BYTES = 32


class Tokens(NamedTuple):
    """Encoded examples, one after the other.

    Attributes:
        kept: numbers [E] of the examples, among those that were given.
        lengths: tokens of each [E].
        answer_starts: where each one's last answer begins [E].
        tokens: ids of all.
        loss_weights: the weight of each token.
    """

    kept: np.ndarray
    lengths: np.ndarray
    answer_starts: np.ndarray
    tokens: np.ndarray
    loss_weights: np.ndarray


def key_of(
    examples: Sequence[Example], tokenizer: Any, template: str, max_length: int
) -> str | None:
    """A name for what these examples become; None for a tokenizer whose content cannot be read.

    It is made of the examples' texts and weights, the tokenizer's own content with its chat
    template, the text of the template, the length, and the versions of the libraries.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    frame = TEXT_TEMPLATES[template]("\0p", "\0c") if template in TEXT_TEMPLATES else ()
    about = [
        FORMAT,
        transformers.__version__,
        tokenizers.__version__,
        backend.to_str(),
        tokenizer.chat_template,
        [tokenizer.bos_token_id, tokenizer.eos_token_id],
        sorted(tokenizer.all_special_tokens),
        template,
        frame,
        max_length,
    ]
    digest = hashlib.sha256(json.dumps(about).encode())
    for one in examples:
        row = [one.prompt, one.completion, one.weight, one.turns]
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def load(folder: Path, key: str) -> Tokens | None:
    """What is kept under a key; None if there is nothing, or nothing whole."""
    try:
        content = _path(folder, key).read_bytes()
    except OSError:
        return None
    digest, image = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(image).digest() != digest:
        return None
    return Tokens(**load_image(image))


def store(folder: Path, key: str, tokens: Tokens) -> None:
    """Keep these under a key; where the disk does not allow it, nothing is kept."""
    image = save_image(tokens._asdict())
    path = _path(folder, key)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(hashlib.sha256(image).digest() + image)
        beside.replace(path)
    except OSError:
        # The cache only saves time: a full or read-only disk must not keep anyone from training.
        with contextlib.suppress(OSError):
            beside.unlink()


def _path(folder: Path, key: str) -> Path:
    return folder / f"{key}.tokens"
