"""Attention by a platform's fused kernel, which never has the [T, T] weights in memory.

On TPU splash attention; chosen where a program is lowered, not where it is traced. cuDNN's flash
attention (2205.14135, 2307.08691) stands ready for CUDA, and is not taken: it lowers, but has not
been measured on a GPU, and jax asks it for a gradient of the mask as well.

A kernel has one batch axis, and of the mapped axes of ``jax.vmap`` it sees nothing: seeds and parts
are folded into the batch before it is called. Left to themselves they break cuDNN's, which takes a
mask that all seeds share for one of each.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jaxtyping import Array, Bool, Float, Int

from lorafuse_jax.models.attention import attend
from lorafuse_jax.parallel.inside import on_mesh

LEAST_LENGTH = 128
"""Tokens of a row from which on a kernel is taken; they are also the least block of splash's."""
HEAD_DIMS = (64, 128)

Kernel = Callable[..., Array]
"""``(kind, queries, keys, values, visible, segments)`` -> as ``attend``."""


class Kind(NamedTuple):
    """What is fixed while a program is traced: see ``attend``."""

    scale: float
    softcap: float | None


def attend_whole(
    queries: Float[Array, "B T N H"],
    keys: Float[Array, "B K T H"],
    values: Float[Array, "B K T H"],
    visible: Bool[Array, "B T T"],
    segments: Int[Array, "B T"] | None,
    kind: Kind,
) -> Float[Array, "B T N H"]:
    """As ``attend``, by the kernel of the platform it is lowered for, where that serves.

    Kernels are for bfloat16, heads of 64 or 128 features, and rows of 128 tokens or more on one
    device; all else is ``attend``, and so is the whole of it on other platforms. What is computed
    again in a backward pass is then the kernel's own.

    Args:
        queries: scaled here.
        keys: of the same tokens.
        values: of the same tokens.
        visible: which tokens each sees.
        segments: if these say as much: a token sees the earlier ones of its own segment; None where
            there is more to it.
        kind: scale and softcap.
    """
    kernels = {
        platform: kernel
        for platform, (kernel, serves) in KERNELS.items()
        if _fits(queries) and serves(queries, keys, segments, kind)
    }
    if not kernels:
        return attend(queries, keys, values, visible, *kind)
    if segments is None:
        segments = jnp.zeros(visible.shape[:2], jnp.int32)
    return _chosen(_Choice(kind, tuple(kernels.items())), queries, keys, values, visible, segments)


def folded(kernel: Kernel) -> Kernel:
    """A function of arrays [B, ...] that ``jax.vmap`` calls with more of them, [A * B, ...]."""
    whole = jax.custom_batching.custom_vmap(kernel)

    @whole.def_vmap
    def rule(size: int, mapped: Any, *arrays: Array) -> tuple[Any, Any]:
        # What is not mapped is the same for all: without its copies rows would get each other's.
        each = [
            array if own else jnp.broadcast_to(array, (size, *array.shape))
            for array, own in zip(arrays, mapped, strict=True)
        ]
        result = whole(*(array.reshape(-1, *array.shape[2:]) for array in each))
        parted = jax.tree.map(lambda leaf: leaf.reshape(size, -1, *leaf.shape[1:]), result)
        return parted, jax.tree.map(lambda _: True, parted)

    return whole


class _Choice(NamedTuple):
    kind: Kind
    kernels: tuple[tuple[str, Kernel], ...]

    def by_platform(self, make: Callable[[Kernel], Kernel], *arrays: Array) -> Any:
        """``make`` of the platform's kernel, or of ``attend``, called with the arrays."""
        fused = {name: folded(make(partial(own, self.kind))) for name, own in self.kernels}
        plain = make(partial(_plain, self.kind))
        return jax.lax.platform_dependent(*arrays, default=plain, **fused)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chosen(choice: _Choice, *arrays: Array) -> Array:
    return choice.by_platform(lambda kernel: kernel, *arrays)


def _forward(choice: _Choice, *arrays: Array) -> tuple[Array, tuple[Array, ...]]:
    return _chosen(choice, *arrays), arrays


def _backward(choice: _Choice, arrays: tuple[Array, ...], cotangent: Array) -> tuple:
    """Each kernel's own, from its inputs: all that platforms have in common to be kept."""

    def gradient(kernel: Kernel) -> Kernel:
        def of(queries, keys, values, visible, segments, cotangent):
            result = lambda q, k, v: kernel(q, k, v, visible, segments)  # noqa: E731
            return jax.vjp(result, queries, keys, values)[1](cotangent)

        return of

    return (*choice.by_platform(gradient, *arrays, cotangent), None, None)


_chosen.defvjp(_forward, _backward)


def _plain(kind: Kind, queries, keys, values, visible, segments) -> Array:
    return attend(queries, keys, values, visible, *kind)


def _fits(queries: Array) -> bool:
    _, time, _, head_dim = queries.shape
    fits = queries.dtype == jnp.bfloat16 and head_dim in HEAD_DIMS and time >= LEAST_LENGTH
    return fits and not on_mesh()  # XLA cannot divide a kernel over devices by itself


def _by_splash(kind: Kind, queries, keys, values, visible, segments, *, interpret=False) -> Array:
    time, heads = queries.shape[1:3]
    pad = partial(_padded, padding=-time % LEAST_LENGTH)
    queries = pad((queries * kind.scale).swapaxes(1, 2), axis=2)
    keys, values, segments = pad(keys, axis=2), pad(values, axis=2), pad(segments, axis=1)
    kernel = _splash(queries.shape[2], heads, kind.softcap, interpret)
    one = lambda q, k, v, s: kernel(q, k, v, splash.SegmentIds(s, s))  # noqa: E731
    return jax.vmap(one)(queries, keys, values, segments)[:, :, :time].swapaxes(1, 2)


def _padded(x: Array, *, padding: int, axis: int) -> Array:
    """With zeros after all that counts, which no token looks ahead to."""
    return jnp.pad(x, [(0, padding * (place == axis)) for place in range(x.ndim)])


def _splash(time: int, heads: int, softcap: float | None, interpret: bool) -> Callable:
    block = next(size for size in (512, 256, LEAST_LENGTH) if time % size == 0)
    return splash.make_splash_mha_single_device(
        mask=splash.MultiHeadMask([splash.CausalMask((time, time))] * heads),
        block_sizes=splash.BlockSizes(*(block,) * 8),  # forward and backward alike
        attn_logits_soft_cap=softcap,
        interpret=interpret,
    )


def _splash_serves(queries, keys, segments, kind: Kind) -> bool:
    return segments is not None


def _by_cudnn(kind: Kind, queries, keys, values, visible, segments) -> Array:
    keys, values = keys.swapaxes(1, 2), values.swapaxes(1, 2)
    return jax.nn.dot_product_attention(
        queries,
        keys,
        values,
        mask=visible[:, None],
        scale=kind.scale,
        implementation="cudnn",
    )


def _cudnn_serves(queries, keys, segments, kind: Kind) -> bool:
    return kind.softcap is None and queries.shape[1] % 2 == 0 and has_cudnn(queries.shape[-1])


@cache
def has_cudnn(head_dim: int) -> bool:
    """Whether JAX has cuDNN at hand, without which its calls cannot even be traced."""
    like = jax.ShapeDtypeStruct((1, LEAST_LENGTH, 1, head_dim), jnp.bfloat16)
    call = partial(jax.nn.dot_product_attention, implementation="cudnn")
    try:
        jax.eval_shape(call, like, like, like)
    except RuntimeError:  # NotImplementedError is one
        return False
    return True


KERNELS: dict[str, tuple[Kernel, Callable[..., bool]]] = {"tpu": (_by_splash, _splash_serves)}
"""Platform -> a kernel, and whether it serves ``(queries, keys, segments, kind)``."""

CUDNN = (_by_cudnn, _cudnn_serves)
"""``KERNELS["cuda"] = CUDNN`` takes it."""
