"""A checkpoint's tensors to our parameter tree, one at a time, with full coverage or not at all."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.decoder import init_params
from lorafuse_jax.models.filling import Filling, Place, StoredTensor
from lorafuse_jax.models.placing import check_fits, plan_params
from lorafuse_jax.models.quantized import Quantization
from lorafuse_jax.types import Params, UserError

UNUSED = re.compile(r".*(\.rotary_emb\.inv_freq|\.attn\.(masked_)?bias)")
"""Old checkpoints store rotary frequencies and causal masks, which follow from the shapes."""

TIED_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class WeightRule:
    """Where a tensor of a checkpoint goes.

    Attributes:
        hf: its name, with ``{layer}`` for the number of a layer.
        ours: slash-joined path of the parameter; layers are stacked on its first axis.
        transpose: checkpoints store ``[O, I]``, kernels are ``[I, O]``.
    """

    hf: str
    ours: str
    transpose: bool = False


def load_params(
    stored: Iterable[StoredTensor],
    config: DecoderConfig,
    rules: Sequence[WeightRule],
    dtype: Any,
    *,
    quantization: Quantization | None = None,
    shardings: Mapping[str, Any] | None = None,
    where: Path,
) -> Params:
    """The parameters, each read and put in its place on the device before the next is looked at.

    So the most that is in memory is the parameters and one tensor of one layer. Of several hosts
    each reads what lies on its own devices, and nothing else.

    Args:
        stored: all tensors of a checkpoint.
        config: gives the tree to fill.
        rules: the family's.
        dtype: of the result.
        quantization: of the kernels in the layers; None keeps them as they are.
        shardings: ``jax.sharding`` of a parameter, by path (``layers/mlp/up_proj/kernel``); those
            that are not named go to the default device. All arrays of a quantised kernel get it,
            so it may divide layers and output features only, whose axes all of them have.
        where: what the checkpoint is called in messages.

    Raises:
        UserError: a tensor that is missing, unknown or of the wrong shape (every tensor is used
            once and every parameter filled once); a sharding that does not fit, or of no parameter;
            or more memory is needed than there is. Nothing has been read then.
    """
    spec = parameter_shapes(config)
    stored = list(stored)
    expected = _expected(config, rules, spec, {tensor.name for tensor in stored})
    missing = sorted(expected.keys() - {tensor.name for tensor in stored})
    if missing:
        raise UserError(f"{where} lacks {len(missing)} tensors, the first is {missing[0]}")
    _check_each(stored, expected, config)
    plan = plan_params(spec, dtype, quantization, shardings or {})
    check_fits(plan, where)
    filling = Filling(plan, dtype, quantization)
    for tensor in stored:
        if tensor.name in expected:
            filling.put(expected[tensor.name], tensor)
    heads = [one for one in stored if one.name == TIED_HEAD and one.name not in expected]
    if any(not filling.holds("embed_tokens/embedding", head) for head in heads):
        raise UserError(
            f"{where}: config.json ties the head to the embedding, but lm_head.weight differs "
            "from it; set tie_word_embeddings to false to use it"
        )
    return filling.params()


def parameter_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Slash-joined path -> shape of every parameter."""
    spec = jax.eval_shape(partial(init_params, config), jax.random.key(0))
    return {
        "/".join(str(entry.key) for entry in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(spec)
    }


def checkpoint_tensors(
    params: Params, rules: Sequence[WeightRule]
) -> Iterable[tuple[str, np.ndarray]]:
    """The inverse of ``load_params``: name and value of every tensor of a checkpoint.

    Args:
        params: of a model, none of it quantised.
        rules: the family's.
    """
    for rule in rules:
        leaf: Any = params
        for name in rule.ours.split("/"):
            leaf = leaf.get(name) if leaf is not None else None
        if leaf is None:  # of another member of the family
            continue
        layered = "{layer}" in rule.hf
        for layer, values in enumerate(np.asarray(leaf) if layered else [np.asarray(leaf)]):
            name = rule.hf.format(layer=layer) if layered else rule.hf
            yield name, values.T if rule.transpose else values


def _expected(config, rules, spec, names: set[str]) -> dict[str, Place]:
    """Tensor name -> its place. A checkpoint of the bare model lacks the first part of names."""
    prefix = rules[0].hf.partition(".")[0] + "."
    bare = not any(name.startswith(prefix) for name in names)
    expected = {}
    used = [rule for rule in rules if rule.ours in spec]
    for rule in used:
        hf = rule.hf.removeprefix(prefix) if bare else rule.hf
        shape = spec[rule.ours]
        if "{layer}" in hf:
            for layer in range(config.num_layers):
                place = Place(rule.ours, layer, rule.transpose, shape[1:])
                expected[hf.format(layer=layer)] = place
        else:
            expected[hf] = Place(rule.ours, None, rule.transpose, shape)
    filled = sorted(rule.ours for rule in used)
    if filled != sorted(spec):
        raise ValueError(f"rules fill {filled}, the model has {sorted(spec)}")
    return expected


def _check_each(
    stored: Sequence[StoredTensor], expected: Mapping[str, Place], config: DecoderConfig
) -> None:
    seen: set[str] = set()
    for tensor in stored:
        name = tensor.name
        if name in seen:
            raise UserError(f"{tensor.file}: tensor {name} is there twice")
        seen.add(name)
        if name in expected:
            place = expected[name]
            shape = place.shape[::-1] if place.transpose else place.shape
        elif name == TIED_HEAD and config.tie_embeddings:
            shape = (config.vocab_size, config.model_dim)
        elif UNUSED.fullmatch(f".{name}"):
            continue
        else:
            raise UserError(f"{tensor.file}: tensor {name} is not a part of this model")
        if tensor.shape != shape:
            raise UserError(
                f"{tensor.file}: {name} has shape {list(tensor.shape)}, config.json says "
                f"{list(shape)}"
            )
