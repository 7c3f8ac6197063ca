"""A GGUF file, dequantised once into a Hugging Face folder that other tools read too."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from lorafuse_jax.models.gguf_file import hf_config, open_gguf, stored_tensors
from lorafuse_jax.models.tokenizer import gguf_tokenizer

ARCHITECTURES = {"llama": "LlamaForCausalLM", "gemma3_text": "Gemma3ForCausalLM"}


def convert_gguf(source: Path, folder: Path) -> None:
    """Write model.safetensors (float32), config.json and the tokenizer.

    Raises:
        UserError: the file is damaged, or of an architecture that is not supported.
    """
    file = open_gguf(source)
    tensors = {
        one.name: np.ascontiguousarray(one.read((slice(None),) * len(one.shape)))
        for one in stored_tensors(file)
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer = gguf_tokenizer(source, file.metadata)
    config = hf_config(file)
    config |= {
        "architectures": [ARCHITECTURES[config["model_type"]]],
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save_pretrained(folder)


def convert_joined_gguf(parts: Sequence[Path], folder: Path) -> None:
    """The same of a file that comes in parts; they are used up."""
    whole = parts[0].parent / "whole.gguf"
    with whole.open("wb") as joined:
        for part in parts:
            with part.open("rb") as data:
                shutil.copyfileobj(data, joined)
            part.unlink()
    convert_gguf(whole, folder)
