"""A tiny model twice: ours, and transformers' with the same weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import AutoModelForCausalLM

from lorafuse_jax.data.batches import BatchShape, pack
from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.models.hub import Model, load_model
from tests.tiny import write_tiny_model

TARGETS = ("q_proj", "down_proj")
MODULES = ("layers/self_attn/q_proj", "layers/mlp/down_proj")
PATTERN = r".*/(q_proj|down_proj)"
PROMPT, ANSWER = np.arange(3, 10), np.arange(20, 32)


class Twin(NamedTuple):
    """Both; ``theirs`` makes a new torch model each time, as PEFT changes it in place."""

    ours: Model
    folder: str

    def theirs(self) -> torch.nn.Module:
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()


def make_twin(folder) -> Twin:
    folder = write_tiny_model(folder)
    return Twin(load_model(folder), str(folder))


def tokens() -> jax.Array:
    return jnp.asarray(np.concatenate([PROMPT, ANSWER]))


def batch():
    """One example with the loss on its answer."""
    example = Encoded.from_answer("0", PROMPT.astype(np.int32), ANSWER.astype(np.int32))
    return jax.tree.map(jnp.asarray, pack([example], BatchShape(1, 24, 16)))


def torch_loss(model) -> torch.Tensor:
    """Minus the summed log-probability of the answer, as ours is over ``batch()``."""
    ids = torch.tensor(np.asarray(tokens()))[None]
    logits = model(ids).logits[0]
    start = len(PROMPT) - 1
    chosen = logits[start:-1].log_softmax(-1)
    return -chosen[torch.arange(len(ANSWER)), torch.tensor(ANSWER)].sum()


def torch_logits(model) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(np.asarray(tokens()))[None]).logits.numpy()


def torch_module(model, module: str, layer: int):
    """The layer of a PEFT model that adapts a module path."""
    name = f"model.layers.{layer}." + module.removeprefix("layers/").replace("/", ".")
    return model.base_model.model.get_submodule(name)


def stacked(model, module: str, get) -> jnp.ndarray:
    """``get(layer module)`` of both layers."""
    return jnp.stack(
        [jnp.asarray(get(torch_module(model, module, k)).detach().numpy()) for k in (0, 1)]
    )
