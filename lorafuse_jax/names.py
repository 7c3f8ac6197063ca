"""Between Hugging Face's module paths, which adapters in files have, and the decoder's.

They are the same for most families. GPT-2's ``transformer/h/*/attn/c_attn`` is the decoder's
``layers/self_attn/qkv_proj``, its ``transformer/wte`` is ``embed_tokens``. Files, operators and
reports speak of Hugging Face's names; an adapter is renamed where it meets the model, and again
where it leaves it.
"""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from lorafuse_jax.models.hub import Model
from lorafuse_jax.models.weights import WeightRule
from lorafuse_jax.types import EMBEDDING

KERNEL, WEIGHT = "/kernel", ".weight"
TABLE = f"{EMBEDDING}/embedding"

Value = TypeVar("Value")


def for_model(adapter: Mapping[str, Value], model: Model) -> dict[str, Value]:
    """An adapter as it was read (or anything by module), with the decoder's module paths."""
    names = _decoder_names(model)
    return {names.get(module, module): update for module, update in adapter.items()}


def for_files(adapter: Mapping[str, Value], model: Model) -> dict[str, Value]:
    """An adapter of the decoder's, with Hugging Face's module paths."""
    names = {ours: theirs for theirs, ours in _decoder_names(model).items()}
    return {names.get(module, module): update for module, update in adapter.items()}


def fan_in_fan_out(model: Model) -> bool:
    """PEFT's word for a family that stores linear layers as [I, O], as GPT-2 alone does."""
    return not all(rule.transpose for rule in _kernels(model) if "{layer}" in rule.hf)


def _decoder_names(model: Model) -> dict[str, str]:
    names = {}
    for rule in _kernels(model):
        path = rule.hf.removesuffix(WEIGHT).replace(".", "/").replace("{layer}", "*")
        for long, short in (("model/layers/*/", "layers/"), (f"model/{EMBEDDING}", EMBEDDING)):
            path = path.replace(long, short, 1)
        names[path] = rule.ours.rpartition("/")[0]
    return names


def _kernels(model: Model) -> Iterator[WeightRule]:
    rules = model.family.WEIGHTS
    return (rule for rule in rules if rule.ours.endswith(KERNEL) or rule.ours == TABLE)
