"""A Llama GGUF, dequantised once into a Hugging Face folder, so that there is one way to load."""

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

from lorafuse_jax.assets.gguf_tokenizer import write_tokenizer
from lorafuse_jax.types import UserError

LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_TENSORS = {"token_embd": "embed_tokens", "output_norm": "norm"}


def convert_gguf(source: Path, folder: Path) -> None:
    """Write model.safetensors (float32), config.json and the tokenizer of a Llama-family GGUF.

    Raises:
        UserError: another architecture, or a tensor this does not know.
    """
    reader = gguf.GGUFReader(source)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    if metadata["general.architecture"] != "llama":
        raise UserError(
            f"{source.name}: architecture {metadata['general.architecture']}, not llama"
        )
    heads = metadata["llama.attention.head_count"]
    kv_heads = metadata["llama.attention.head_count_kv"]
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        values = values.reshape([int(size) for size in reversed(tensor.shape)])
        if tensor.name.endswith(".attn_q.weight"):
            values = _unpermute(values, heads)
        elif tensor.name.endswith(".attn_k.weight"):
            values = _unpermute(values, kv_heads)
        tensors[_hf_name(tensor.name)] = np.ascontiguousarray(values)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = _config(metadata, tied="lm_head.weight" not in tensors)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_tokenizer(metadata, folder)


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's interleaving of the two rotary halves of each head."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, rows // heads // 2, 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def _hf_name(name: str) -> str:
    match name.split("."):
        case ["blk", layer, tensor, "weight"] if tensor in LAYER_TENSORS:
            return f"model.layers.{layer}.{LAYER_TENSORS[tensor]}.weight"
        case [tensor, "weight"] if tensor in TOP_TENSORS:
            return f"model.{TOP_TENSORS[tensor]}.weight"
        case ["output", "weight"]:
            return "lm_head.weight"
    raise UserError(f"the GGUF holds a tensor this cannot place: {name}")


def _config(metadata: dict, *, tied: bool) -> dict:
    get = lambda key: metadata[f"llama.{key}"]  # noqa: E731
    heads = get("attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "hidden_size": get("embedding_length"),
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv"),
        "head_dim": get("embedding_length") // heads,
        "hidden_act": "silu",
        "max_position_embeddings": get("context_length"),
        "rms_norm_eps": round(float(get("attention.layer_norm_rms_epsilon")), 12),
        "rope_theta": float(get("rope.freq_base")),
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "pad_token_id": metadata.get("tokenizer.ggml.padding_token_id"),
        "torch_dtype": "float32",
    }
