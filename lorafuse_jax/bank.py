"""Many adapters for one batch of rows: of any kinds and ranks, over one base.

Rows [S * B] belong to members in order, B each. The base weights see one batch of all rows; only
the updates are applied member by member.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from lorafuse_jax.ends import layers_alone, look_up
from lorafuse_jax.lora import LAYERS
from lorafuse_jax.models.decoder import LayerHook
from lorafuse_jax.models.head import HeadHook
from lorafuse_jax.types import EMBEDDING, HEAD, Adapter, DenseDelta, LoraPair

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
    """What makes the decoder's embedding and projections add each row's update."""
    embedding = None
    if EMBEDDING in bank:
        embedding = partial(_look_up, jax.tree.map(lambda leaf: leaf[0], bank[EMBEDDING]))

    def interceptor(updates: Bank) -> Callable:
        def intercept(next_fun, args, kwargs, context):
            y = next_fun(*args, **kwargs)
            module = LAYERS + "/".join(context.module.path)
            if module not in updates or context.method_name != "__call__":
                return y
            return y + _apply(updates[module], args[0]).reshape(y.shape)

        return intercept

    return LayerHook(layers_alone(bank), interceptor, embedding)


def bank_head_hook(bank: Bank, row: Int[Array, " M"], rows: int) -> HeadHook | None:
    """What makes the head add each token's update; None if no member has one.

    A token has the features of every member, those of all others but its own zero. So all members'
    kernels together are read once, whatever the tokens' order.

    Args:
        bank: the members' adapters.
        row: in which row each token is.
        rows: S * B of them.
    """
    if HEAD not in bank:
        return None
    runs = jax.tree.map(lambda leaf: leaf[0], bank[HEAD])
    sizes = [run[0].shape[0] for run in runs]
    member = row // (rows // sum(sizes))
    firsts = np.cumsum([0, *sizes[:-1]])

    def features(hidden: Float[Array, "M D"]) -> tuple[Array, ...]:
        found = []
        for run, size, first in zip(runs, sizes, firsts, strict=True):
            own = (member[:, None] == first + jnp.arange(size)).astype(hidden.dtype)[..., None]
            if isinstance(run, LowRankRun):
                inner = jnp.einsum("md,srd->msr", hidden, run.down.astype(hidden.dtype))
            else:
                inner = hidden[:, None]
            found.append((inner * own).reshape(hidden.shape[0], -1))
        return tuple(found)

    return HeadHook(features, tuple(run[-1].reshape(-1, run[-1].shape[-1]) for run in runs))


def _apply(runs: Sequence[LowRankRun | DenseRun], x: Float[Array, "SB T I"]) -> Array:
    return _by_runs(_apply_run, runs, x.reshape(_count(runs), -1, x.shape[-1]))


def _look_up(
    runs: Sequence[LowRankRun | DenseRun], tokens: Int[Array, "SB T"]
) -> Float[Array, "SB T D"]:
    """Runs without the axis L; every row's tokens in its own member's table."""
    found = _by_runs(_look_up_run, runs, tokens.reshape(_count(runs), -1))
    return found.reshape(*tokens.shape, -1)


def _look_up_run(run: LowRankRun | DenseRun, tokens: Int[Array, "S M"]) -> Float[Array, "S M D"]:
    if isinstance(run, DenseRun):
        return jax.vmap(look_up)(DenseDelta(run.delta), tokens)
    return jax.vmap(look_up)(LoraPair(run.down.mT, run.up), tokens)


def _count(runs: Sequence[LowRankRun | DenseRun]) -> int:
    """Of members; the runs are without the axis L."""
    return sum(run[0].shape[0] for run in runs)


def _by_runs(
    function: Callable, runs: Sequence[LowRankRun | DenseRun], by_member: Shaped[Array, "S ..."]
) -> Array:
    """``function`` of every run and its members' part."""
    results, first = [], 0
    for run in runs:
        size = run[0].shape[0]
        results.append(function(run, by_member[first : first + size]))
        first += size
    return jnp.concatenate(results) if len(results) > 1 else results[0]


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
