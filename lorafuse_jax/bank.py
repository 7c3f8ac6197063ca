"""Many adapters for one batch of rows: of any kinds and ranks, over one base.

Rows [S * B] belong to members in order, B each. The base weights see one batch of all rows; only
the updates are applied member by member.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.lora import LAYERS
from lorafuse_jax.models.decoder import LayerHook
from lorafuse_jax.types import Adapter, DenseDelta, LoraPair

JOINT_ROWS = 8
"""Up to so many rows a member, all low-rank updates are one product, most of which is masked out:
S small products of few rows each take longer."""


class LowRankRun(NamedTuple):
    """Low-rank updates of S neighbouring members; rank 0 where they have none."""

    down: Float[Array, "*L S R I"]
    up: Float[Array, "*L S R O"]


class DenseRun(NamedTuple):
    """Dense updates of S neighbouring members."""

    delta: Float[Array, "*L S I O"]


Bank: TypeAlias = dict[str, tuple[LowRankRun | DenseRun, ...]]
"""Module path -> the members' updates, in order, in runs of one kind and rank."""


def make_bank(adapters: Sequence[Adapter]) -> Bank:
    """The bank of these members: low rank, dense, or the base model ({}).

    Args:
        adapters: one a member, leaves [L, ...], with their scale.
    """
    bank: Bank = {}
    for module in sorted({module for adapter in adapters for module in adapter}):
        like = next(adapter[module] for adapter in adapters if module in adapter)
        nothing = LoraPair(like[0][..., :0], like[-1][..., :0, :])
        updates = [adapter.get(module, nothing) for adapter in adapters]
        runs = groupby(updates, key=lambda update: (type(update), update[0].shape))
        bank[module] = tuple(_run(list(run)) for _, run in runs)
    return bank


def _run(updates: list[LoraPair | DenseDelta]) -> LowRankRun | DenseRun:
    if isinstance(updates[0], DenseDelta):
        return DenseRun(jnp.stack([update[0] for update in updates], axis=1))
    return LowRankRun(
        jnp.stack([update[0].mT for update in updates], axis=1),
        jnp.stack([update[-1] for update in updates], axis=1),
    )


def bank_hook(bank: Bank) -> LayerHook:
    """What makes the decoder's projections add each row's update, layer by layer."""

    def interceptor(updates: Bank) -> Callable:
        def intercept(next_fun, args, kwargs, context):
            y = next_fun(*args, **kwargs)
            module = LAYERS + "/".join(context.module.path)
            if module not in updates or context.method_name != "__call__":
                return y
            return y + _apply(updates[module], args[0]).reshape(y.shape)

        return intercept

    return LayerHook(bank, interceptor)


def _apply(runs: Sequence[LowRankRun | DenseRun], x: Float[Array, "SB T I"]) -> Array:
    sizes = [run[0].shape[0] for run in runs]
    by_member = x.reshape(sum(sizes), -1, x.shape[-1])
    changes, first = [], 0
    for run, size in zip(runs, sizes, strict=True):
        changes.append(_apply_run(run, by_member[first : first + size]))
        first += size
    return jnp.concatenate(changes) if len(changes) > 1 else changes[0]


def _apply_run(run: LowRankRun | DenseRun, x: Float[Array, "S M I"]) -> Float[Array, "S M O"]:
    if isinstance(run, DenseRun):
        return x @ run.delta.astype(x.dtype)
    members, rank, _ = run.down.shape
    if rank == 0:
        return jnp.zeros((*x.shape[:2], run.up.shape[-1]), x.dtype)
    down, up = run.down.astype(x.dtype), run.up.astype(x.dtype)
    if x.shape[1] > JOINT_ROWS:
        inner = jax.lax.dot_general(x, down, (((2,), (2,)), ((0,), (0,))))
        return inner @ up
    rows = x.reshape(-1, x.shape[-1])
    inner = (rows @ down.reshape(members * rank, -1).T).reshape(members, -1, members, rank)
    own = jnp.eye(members, dtype=x.dtype)[:, None, :, None]
    joint = (inner * own).reshape(rows.shape[0], members * rank) @ up.reshape(members * rank, -1)
    return joint.reshape(members, -1, up.shape[-1])
