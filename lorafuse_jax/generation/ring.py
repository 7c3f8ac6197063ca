"""The cache of a batch whose rows come and go: a ring of slots, written at one place for all rows.

Every step writes one slot, the same for all rows, so that a step costs one slice update and no
scatter. A row's tokens stand in the slots before the present one, the last written nearest; a new
row's prompt is laid down there as if it had just been read. A row of n tokens is whole as long as
the ring has n slots.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Ring(NamedTuple):
    """Keys, values and positions in C slots of each row.

    Attributes:
        keys: of every layer.
        values: of every layer.
        positions: of the token in each slot, -1 where there is none of this row.
        slot: where the next token is written: the oldest slot.
    """

    keys: Float[Array, "L R K C H"]
    values: Float[Array, "L R K C H"]
    positions: Int[Array, "R C"]
    slot: Int[Array, ""]


def empty(like: jax.ShapeDtypeStruct, rows: int, slots: int) -> Ring:
    """A ring for keys like these [L, B, K, T, H]."""
    layers, _, kv_heads, _, head_dim = like.shape
    shape = (layers, rows, kv_heads, slots, head_dim)
    return Ring(
        jnp.zeros(shape, like.dtype),
        jnp.zeros(shape, like.dtype),
        jnp.full((rows, slots), -1, jnp.int32),
        jnp.zeros((), jnp.int32),
    )


def append(ring: Ring, keys: Array, values: Array, positions: Int[Array, " R"]) -> Ring:
    """One token more of every row; keys and values are [L, R, K, 1, H]."""
    write = jax.lax.dynamic_update_slice_in_dim
    return Ring(
        write(ring.keys, keys.astype(ring.keys.dtype), ring.slot, axis=3),
        write(ring.values, values.astype(ring.values.dtype), ring.slot, axis=3),
        write(ring.positions, positions[:, None], ring.slot, axis=1),
        (ring.slot + 1) % ring.positions.shape[1],
    )


class Prefix(NamedTuple):
    """What all prompts begin with, read once for each member.

    Attributes:
        keys: of every layer, in P slots; P is a bucket, or 0 where prompts share nothing.
        values: of every layer.
        length: how many of the slots hold a token; those after them mean nothing.
    """

    keys: Float[Array, "L S K P H"]
    values: Float[Array, "L S K P H"]
    length: Int[Array, ""]


class Source(NamedTuple):
    """Where the prompt of a new row lies in what was read; N rows, some of them idle.

    Attributes:
        lane: the row of the ring that it gets; -1 for an idle one.
        row: the row that it was read in.
        end: one past its last token there.
        length: its number of tokens, those of a shared prefix counted.
    """

    lane: Int[Array, " N"]
    row: Int[Array, " N"]
    end: Int[Array, " N"]
    length: Int[Array, " N"]


def insert(ring: Ring, read: tuple[Array, Array], prefix: Prefix, source: Source) -> Ring:
    """Lay prompts that were read into rows of the ring; what was in these is gone.

    Args:
        ring: with at least as many slots as the longest of these prompts has tokens.
        read: keys and values [L, B, K, T, H].
        prefix: what all prompts of a row begin with, which is not in ``read``.
        source: which parts of it, and where to.
    """
    slots = ring.positions.shape[1]
    shared = prefix.keys.shape[3]
    before = ((0, 0), (0, 0), (0, 0), (slots, 0), (0, 0))
    after = ((0, 0), (0, 0), (0, 0), (0, slots - shared), (0, 0))
    read_keys, read_values = (jnp.pad(x, before) for x in read)
    prefix_keys, prefix_values = (jnp.pad(x, after) for x in prefix[:2])
    layers, _, kv_heads, _, head_dim = read_keys.shape
    window = (layers, 1, kv_heads, slots, head_dim)
    # A window that ends with the prompt is in the ring's order but for its turn.
    turn = lambda x, axis: jnp.roll(x, ring.slot, axis=axis)  # noqa: E731

    def one(number: Array, ring: Ring) -> Ring:
        lane, row, end, length = (field[number] for field in source)
        at = jnp.maximum(lane, 0)
        places = jnp.arange(slots) - slots + length
        positions = turn(jnp.where(places < 0, -1, places), 0).astype(jnp.int32)

        def whole(own: Array, common: Array) -> Array:
            found = jax.lax.dynamic_slice(own, (0, row, 0, end, 0), window)
            if shared:
                first = jax.lax.dynamic_slice(common, (0, row, 0, 0, 0), window)
                first = jnp.roll(first, slots - length, axis=3)
                found = jnp.where((places < prefix.length)[:, None], first, found)
            return turn(found, 3)

        def put(old: Array, new: Array, axis: int) -> Array:
            kept = jax.lax.dynamic_slice_in_dim(old, at, 1, axis=axis)
            new = jnp.where(lane < 0, kept, new.astype(old.dtype))
            return jax.lax.dynamic_update_slice_in_dim(old, new, at, axis=axis)

        return Ring(
            put(ring.keys, whole(read_keys, prefix_keys), 1),
            put(ring.values, whole(read_values, prefix_values), 1),
            put(ring.positions, positions[None], 0),
            ring.slot,
        )

    return jax.lax.fori_loop(0, source.lane.shape[0], one, ring)


def resize(ring: Ring, slots: int) -> Ring:
    """The same rows in more or fewer slots; the newest tokens are kept."""
    have = ring.positions.shape[1]

    def fit(x: Array, axis: int, filler: int) -> Array:
        in_order = jnp.roll(x, -ring.slot, axis=axis)
        if slots <= have:
            return jax.lax.slice_in_dim(in_order, have - slots, have, axis=axis)
        padding = [(0, 0)] * x.ndim
        padding[axis] = (slots - have, 0)
        return jnp.pad(in_order, padding, constant_values=filler)

    return Ring(
        fit(ring.keys, 3, 0),
        fit(ring.values, 3, 0),
        fit(ring.positions, 1, -1),
        jnp.zeros((), jnp.int32),
    )


def take_rows(ring: Ring, rows: Int[Array, " M"]) -> Ring:
    """Some rows only."""
    return Ring(ring.keys[:, rows], ring.values[:, rows], ring.positions[rows], ring.slot)
