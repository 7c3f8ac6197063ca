"""Random adapters of a tiny Llama, and that Llama in torch."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lorafuse_jax.types import DenseDelta, LoraPair

LAYERS = 2
SHAPES = {"layers/self_attn/q_proj": (16, 16), "layers/mlp/down_proj": (24, 16)}
INFO = {"base_model": "tiny/llama", "provenance": {"operator": "mean", "members": [1, 2]}}


def random_pairs(seed=0, ranks=(3, 3), dtype=jnp.float32) -> dict[str, Any]:
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(0.3 * rng.normal(size=shape), dtype)

    return {
        module: LoraPair(draw(LAYERS, fan_in, rank), draw(LAYERS, rank, fan_out))
        for (module, (fan_in, fan_out)), rank in zip(SHAPES.items(), ranks, strict=True)
    }


def random_dense(seed=0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        module: DenseDelta(jnp.asarray(rng.normal(size=(LAYERS, *shape)), jnp.float32))
        for module, shape in SHAPES.items()
    }


def tiny_llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=37,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=32,
    )
    return LlamaForCausalLM(config).eval()


def logits(model):
    with torch.no_grad():
        return model(torch.arange(12)[None]).logits.numpy()


def merge_by_hand(model, adapter):
    """Add the deltas to the torch weights; returns the same model."""
    with torch.no_grad():
        for module, pair in adapter.items():
            for layer in range(LAYERS):
                name = f"model.layers.{layer}." + module.removeprefix("layers/").replace("/", ".")
                delta = np.asarray(pair.lora_a[layer], np.float64) @ np.asarray(pair.lora_b[layer])
                model.get_submodule(name).weight += torch.tensor(delta.T, dtype=torch.float32)
    return model
