"""The last adapters of every seed along its training, kept to be averaged."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from lorafuse_jax.parallel import hosts
from lorafuse_jax.types import Adapter


class Trajectory(NamedTuple):
    """A ring of the last M stacked adapters; goes into checkpoints with the training state.

    Attributes:
        kept: how many were kept so far, those included that have been overwritten.
        ring: leaves [M, S, L, ...]; entry ``kept % M`` is the next to be overwritten.
    """

    kept: Int[np.ndarray, ""] | Int[Array, ""]
    ring: Adapter


def fresh_trajectory(stacked: Adapter, length: int) -> Trajectory:
    """An empty ring of M = ``length``; in the host's memory."""
    empty = lambda leaf: np.zeros((length, *leaf.shape), leaf.dtype)  # noqa: E731
    return Trajectory(np.asarray(0, np.int32), jax.tree.map(empty, stacked))


def keep(trajectory: Trajectory, stacked: Adapter) -> Trajectory:
    """The ring with the adapter in the place of the oldest; the arrays passed in are reused."""
    kept = int(trajectory.kept)

    def put(ring, leaf):
        ring = np.array(ring) if not isinstance(ring, np.ndarray) else ring
        ring[kept % len(ring)] = hosts.fetch(leaf)
        return ring

    return Trajectory(np.asarray(kept + 1, np.int32), jax.tree.map(put, trajectory.ring, stacked))


def of_seed(trajectory: Trajectory, number: int) -> Adapter:
    """What is kept of one seed as a stacked tree, leaves [M', L, ...], M' <= M; no order."""
    leaves = jax.tree.leaves(trajectory.ring)
    length = min(int(trajectory.kept), leaves[0].shape[0])
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[:length, number]), trajectory.ring)
