"""Tiny random torch models of several families, and PEFT adapters of them."""

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from tests.models.families import KINDS

SHAPE = {
    "vocab_size": 37,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
}


def build(family):
    """The same weights every time."""
    torch.manual_seed(0)
    if family == "gpt2":
        config = GPT2Config(vocab_size=37, n_positions=32, n_embd=16, n_layer=3, n_head=2)
        return GPT2LMHeadModel(config).eval()
    config, model = KINDS[family]
    return model(config(**SHAPE)).eval()


TARGETS = {
    "llama": ["q_proj", "down_proj"],
    "mistral": r".*layers\.[02]\.(self_attn\.v_proj|mlp\.gate_proj)",
    "qwen2": ["k_proj", "up_proj", "lm_head"],
    "gpt2": ["c_attn", "c_proj"],
}


def train(family, seed=1, **settings):
    """A PEFT model with an adapter whose B is not zero."""
    torch.manual_seed(seed)
    config = {"r": 4, "lora_alpha": 4, "target_modules": TARGETS[family]} | settings
    config["fan_in_fan_out"] = family == "gpt2"
    model = get_peft_model(build(family), LoraConfig(task_type="CAUSAL_LM", **config))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def load(family, folder):
    """PEFT's own view of an adapter folder."""
    return PeftModel.from_pretrained(build(family), folder).eval()


def logits(model):
    with torch.no_grad():
        return model(torch.arange(12)[None]).logits.numpy()


def different(ours, theirs):
    return np.abs(ours - theirs).max() > 1e-2
