"""The nouns of the library: an adapter is a flat dict from module path to an update.

Axis letters, the same in annotations, einsum strings and docstrings everywhere:
S seed (member) · L layers · B batch · T time · D model · N query heads · K key/value heads · H head
dim · F ffn · V vocab · I fan-in · O fan-out · R rank · E examples.

A module path names a projection as Hugging Face does, without the layer index, for example
``"layers/self_attn/q_proj"``: the layers are stacked on axis L. The two ends of the model are in no
layer and have L = 1: the embedding, a table with I = V and O = D, and the output head, I = D and
O = V. A leaf that has a seed axis has it first. A tree with a seed axis is called ``stacked``, one
without ``adapter``.
"""

from typing import Any, NamedTuple, TypeAlias

from jaxtyping import Array, Float

Params: TypeAlias = dict[str, Any]
"""Frozen base weights: nested dicts; kernels are ``[..., I, O]`` and ``y = x @ kernel``."""


class LoraPair(NamedTuple):
    """A low-rank update ``delta = lora_a @ lora_b``; no scale is hidden beside it."""

    lora_a: Float[Array, "*SL I R"]
    lora_b: Float[Array, "*SL R O"]


class DenseDelta(NamedTuple):
    """A full-rank update, what entry-wise fusion produces."""

    delta: Float[Array, "*SL I O"]


class DoraPair(NamedTuple):
    """DoRA in training and on disk; ``dora.dora_deltas`` makes the update of it, given the base."""

    lora_a: Float[Array, "*SL I R"]
    lora_b: Float[Array, "*SL R O"]
    magnitude: Float[Array, "*SL O"]


Adapter: TypeAlias = dict[str, LoraPair | DenseDelta]
"""Module path -> update. Leaves ``[L, ...]``, or ``[S, L, ...]`` in a stacked tree."""


EMBEDDING, HEAD = "embed_tokens", "lm_head"
ENDS = (EMBEDDING, HEAD)
"""Module paths of the two ends."""


class UserError(Exception):
    """Bad input: says what was wrong, where, what was expected and what to do.

    The command line prints its message alone and exits with 2.
    """
