"""Null controls: an operator on members that have learned nothing of the task, or not there.

``random_members(op)`` and ``shuffled_layers(op)`` are operators with the settings of ``op``. What
they reach is what the operator gives without any knowledge in its members: its effect as a
regulariser, or as noise of that norm.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from lorafuse_jax.fusion.moments import inner_products, root
from lorafuse_jax.fusion.operator import Operator
from lorafuse_jax.types import Adapter, LoraPair, UserError


def random_members(op: Operator) -> Operator:
    """``op`` on Gaussian members of the same rank and, module by module, the same norms.

    arXiv:2602.12323 reports that merging such adapters works nearly as well as merging trained
    ones.
    """

    def of_same_norms(stacked: dict[str, LoraPair], key: Key[Array, ""]) -> Adapter:
        drawn: Adapter = {}
        for module, pair in stacked.items():
            keys = jax.random.split(jax.random.fold_in(key, crc32(module.encode())))
            noise = LoraPair(*map(_normal_like, keys, pair))
            norms, own = (root(_squared_norms(members)) for members in (pair, noise))
            size = (norms / own).T[..., None, None]
            drawn[module] = noise._replace(lora_b=noise.lora_b * size)
        return drawn

    return replace(_on_null_members(op, "random_members", of_same_norms), sign_equivariant=False)


def shuffled_layers(op: Operator) -> Operator:
    """``op`` on the members with their layers in random order, each member in its own.

    What stands in a layer is then a trained update of the right module and norm, at the wrong
    depth. The layers of one member stay together: all its modules of as many layers are shuffled
    alike. What has one layer alone, as the embedding and the head, stays where it is.
    """

    def in_random_order(stacked: dict[str, LoraPair], key: Key[Array, ""]) -> Adapter:
        members = next(iter(stacked.values())).lora_a.shape[0]
        keys = jax.random.split(key, members)
        pick = jax.vmap(lambda leaf, order: leaf[order])
        shuffled: Adapter = {}
        for module, pair in stacked.items():
            layers = pair.lora_a.shape[1]
            orders = jax.vmap(partial(jax.random.permutation, x=layers))(keys)
            shuffled[module] = LoraPair(*(pick(leaf, orders) for leaf in pair))
        return shuffled

    return _on_null_members(op, "shuffled_layers", in_random_order)


def _on_null_members(
    op: Operator,
    name: str,
    replaced: Callable[[dict[str, LoraPair], Key[Array, ""]], Adapter],
) -> Operator:
    if op.statistic is not None:
        raise UserError(f"{name} has no {op.statistic} for {op.name}")

    def fuse_null_members(
        stacked: dict[str, LoraPair],
        *,
        weights: Float[Array, " S"],
        key: Key[Array, ""],
        **settings: Any,
    ) -> Adapter:
        replacing_key, op_key = jax.random.split(key)
        extra = {"key": op_key} if op.stochastic else {}
        return op(replaced(stacked, replacing_key), weights=weights, **extra, **settings)

    fuse_null_members.__doc__ = op.fn.__doc__
    fuse_null_members.__signature__ = _with_key(inspect.signature(op.fn))  # pyrefly: ignore
    return replace(
        op,
        name=f"{name}:{op.name}",
        fn=fuse_null_members,
        lift="tree",
        stream=False,
        stochastic=True,
        permutation_invariant=False,
        identity_for_one=False,
        layerwise=False,
        fixed_point=False,
        transforms=(),
    )


def _with_key(signature: inspect.Signature) -> inspect.Signature:
    """The same parameters, and a key that is always needed."""
    others = [p for p in signature.parameters.values() if p.name not in ("key", "statistic")]
    key = inspect.Parameter("key", inspect.Parameter.KEYWORD_ONLY)
    return signature.replace(parameters=[*others, key])


def _normal_like(key: Key[Array, ""], leaf: Float[Array, "S L rows columns"]) -> Array:
    return jax.random.normal(key, leaf.shape, leaf.dtype)


def _squared_norms(pair: LoraPair) -> Float[Array, "L S"]:
    return jnp.diagonal(inner_products(pair), axis1=-2, axis2=-1)
