"""Tiny models and adapters for tests, random every time a seed is changed."""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lorafuse_jax.lora import LoraRule, adaptable_modules, init_adapter
from lorafuse_jax.models.config import DecoderConfig, Rope
from lorafuse_jax.models.decoder import init_params
from lorafuse_jax.types import Adapter, DenseDelta, LoraPair, Params


def tiny_config(**changes) -> DecoderConfig:
    """A decoder of two layers that compiles in a second."""
    settings = {
        "vocab_size": 97,
        "model_dim": 16,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 4,
        "ffn_dim": 24,
        "context_length": 256,
        "norm_eps": 1e-5,
        "rope": Rope(theta=10000.0),
        "tie_embeddings": True,
    }
    return DecoderConfig(**(settings | changes))


def tiny_params(config: DecoderConfig, seed: int = 0) -> Params:
    """Random parameters, large enough that every part of the model matters.

    Drawn by NumPy, because JAX compiles an initialiser anew for every shape.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf) -> jax.Array:
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return jax.numpy.asarray(centre + 0.4 * rng.normal(size=leaf.shape), leaf.dtype)

    spec = jax.eval_shape(partial(init_params, config), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, spec)


def random_adapter(
    params: Params, seed: int = 0, rank: int = 3, size: float = 0.1, targets: str | None = None
) -> Adapter:
    """An adapter whose B is not zero."""
    rule = LoraRule(rank=rank) if targets is None else LoraRule(rank=rank, targets=targets)
    fresh = init_adapter(jax.random.key(seed), params, [rule])
    keys = jax.random.split(jax.random.key(seed + 1000), len(fresh))
    return {
        module: LoraPair(pair.lora_a, size * jax.random.normal(key, pair.lora_b.shape))
        for (module, pair), key in zip(fresh.items(), keys, strict=True)
    }


def random_dense(params: Params, seed: int = 0, size: float = 0.03) -> Adapter:
    """A dense adapter of every projection."""
    rng = np.random.default_rng(seed)
    return {
        module: DenseDelta(jax.numpy.asarray(size * rng.normal(size=shape), jax.numpy.float32))
        for module, shape in adaptable_modules(params).items()
    }


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, and an end token."""
    characters = [chr(code) for code in range(32, 127)] + ["\n"]
    vocabulary = {"<end>": 0} | {character: n + 1 for n, character in enumerate(characters)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>", unk_token="<end>"
    )


def write_tiny_model(folder: Path, seed: int = 0) -> Path:
    """A whole Hugging Face folder of a tiny Llama."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    config = tiny_config(vocab_size=len(tokenizer))
    params = tiny_params(config, seed)
    tensors = {
        "model.embed_tokens.weight": params["embed_tokens"]["embedding"],
        "model.norm.weight": params["norm"]["scale"],
    }
    for path, leaf in jax.tree_util.tree_leaves_with_path(params["layers"]):
        *module, last = (entry.key for entry in path)
        for layer in range(config.num_layers):
            name = f"model.layers.{layer}.{'.'.join(module)}.weight"
            tensors[name] = leaf[layer].T if last == "kernel" else leaf[layer]
    save_file(
        {k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "model.safetensors"
    )
    described = {
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.model_dim,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(described))
    tokenizer.save_pretrained(folder)
    return folder


def write_sums(folder: Path, train: int = 40, validation: int = 8, test: int = 6) -> Path:
    """A task of small sums."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(a, b) for a in range(9) for b in range(9)]
    np.random.default_rng(0).shuffle(pairs)
    for split, count in {"train": train, "validation": validation, "test": test}.items():
        rows = [
            {
                "id": f"{a}+{b}",
                "prompt": f"{a} + {b}?",
                "completion": f"#### {a + b}",
                "answer": a + b,
            }
            for a, b in pairs[:count]
        ]
        pairs = pairs[count:]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.json").write_text(json.dumps({"name": "sums", "template": "qa"}))
    return folder
