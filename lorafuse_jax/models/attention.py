"""Grouped-query attention to this call's tokens, and to a cache of earlier ones."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lorafuse_jax.models.cache import LayerPast

CPU_SLICE_BYTES = 1 << 20
"""On CPU the cache is read in slices of about this size, which stay in a core's own memory."""


def attend(
    queries: Float[Array, "B T N H"],
    keys: Float[Array, "B K C H"],
    values: Float[Array, "B K C H"],
    visible: Bool[Array, "B T C"],
    scale: float,
    softcap: float | None,
) -> Float[Array, "B T N H"]:
    """Softmax attention; the G = N/K query heads of a key head become rows of one matrix product.

    So keys are never repeated, and a batched product has B x K members of G x T rows, large enough
    to run near the machine's matrix speed. A query that sees nothing gets a uniform, finite result.
    In a backward pass the weights are computed again: storing [T, C] for every head and layer, and
    reading it back, costs more than the product itself.
    """
    rows = _group_rows(queries, keys.shape[1])
    scores = _scores(rows, keys, visible, scale, softcap)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return _ungroup(_mix(weights, values), queries.shape)


def attend_with_past(
    queries: Float[Array, "B T N H"],
    keys: Float[Array, "B K T H"],
    values: Float[Array, "B K T H"],
    visible: Bool[Array, "B T T"],
    past: LayerPast,
    scale: float,
    softcap: float | None,
) -> Float[Array, "B T N H"]:
    """As ``attend``, to the slots of a cache as well: two softmaxes, joined by their normalisers.

    XLA copies the slice that a scan over layers takes out of the cache. On CPU it is therefore
    taken a few rows at a time, so that the copy stays near the core that reads it: that is twice
    as fast as one copy of a whole layer.
    """
    rows = _group_rows(queries, keys.shape[1])
    own = _partial_softmax(_scores(rows, keys, visible, scale, softcap), values)
    batch, size = rows.shape[0], _rows_at_once(past)

    def some_rows(start, size):
        take = lambda x: jax.lax.dynamic_slice_in_dim(x, start, size, 0)  # noqa: E731
        window = lambda x: (1, size, *x.shape[2:])  # noqa: E731
        at = (past.layer, start, 0, 0, 0)
        layer = lambda x: jax.lax.dynamic_slice(x, at, window(x))[0]  # noqa: E731
        scores = _scores(take(rows), layer(past.keys), take(past.visible), scale, softcap)
        return _partial_softmax(scores, layer(past.values))

    def at_once():
        return some_rows(0, batch)

    def in_parts():
        starts = jnp.arange(0, batch, size)
        parts = jax.lax.map(lambda start: some_rows(start, size), starts)
        return jax.tree.map(lambda x: x.reshape(batch, *x.shape[2:]), parts)

    if size == batch:
        earlier = at_once()
    else:
        earlier = jax.lax.platform_dependent(cpu=in_parts, default=at_once)
    return _ungroup(_join(own, earlier).astype(values.dtype), queries.shape)


def _group_rows(queries: Array, kv_heads: int) -> Array:
    batch, time, heads, head_dim = queries.shape
    grouped = queries.reshape(batch, time, kv_heads, heads // kv_heads, head_dim)
    return grouped.transpose(0, 2, 3, 1, 4).reshape(batch, kv_heads, -1, head_dim)


def _ungroup(mixed: Array, shape: tuple[int, ...]) -> Array:
    batch, time, heads, head_dim = shape
    kv_heads = mixed.shape[1]
    grouped = mixed.reshape(batch, kv_heads, heads // kv_heads, time, head_dim)
    return grouped.transpose(0, 3, 1, 2, 4).reshape(shape)


def _scores(rows: Array, keys: Array, visible: Array, scale: float, softcap: float | None) -> Array:
    """[B, K, G T, C], float32; very low where nothing is to be seen."""
    scores = jax.lax.dot_general(
        rows * scale, keys, (((3,), (3,)), ((0, 1), (0, 1))), preferred_element_type=jnp.float32
    )
    if softcap is not None:
        scores = softcap * jnp.tanh(scores / softcap)
    batch, kv_heads, grouped, slots = scores.shape
    time = visible.shape[1]
    scores = scores.reshape(batch, kv_heads, grouped // time, time, slots)
    scores = jnp.where(visible[:, None, None], scores, jnp.finfo(jnp.float32).min)
    return scores.reshape(batch, kv_heads, grouped, slots)


def _mix(weights: Array, values: Array) -> Array:
    return jax.lax.dot_general(weights, values, (((3,), (2,)), ((0, 1), (0, 1))))


def _partial_softmax(scores: Array, values: Array) -> tuple[Array, Array, Array]:
    """Largest score, normaliser relative to it, and unnormalised result."""
    largest = scores.max(axis=-1, keepdims=True)
    weights = jnp.exp(scores - largest)
    return largest, weights.sum(axis=-1, keepdims=True), _mix(weights.astype(values.dtype), values)


def _join(left: tuple[Array, Array, Array], right: tuple[Array, Array, Array]) -> Array:
    largest = jnp.maximum(left[0], right[0])
    factors = [jnp.exp(part[0] - largest) for part in (left, right)]
    normaliser = left[1] * factors[0] + right[1] * factors[1]
    return (left[2] * factors[0] + right[2] * factors[1]) / normaliser


def _rows_at_once(past: LayerPast) -> int:
    """On CPU."""
    _, batch, *rest = past.keys.shape
    row_bytes = past.keys.dtype.itemsize * rest[0] * rest[1] * rest[2]
    most = max(1, CPU_SLICE_BYTES // row_bytes)
    return max(size for size in range(1, batch + 1) if batch % size == 0 and size <= most)
