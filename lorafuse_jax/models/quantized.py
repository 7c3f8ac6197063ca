"""A frozen base in 8 or 4 bits a weight: int8 a channel, and NF4 in blocks as in QLoRA.

A quantised kernel stands in the parameter tree where the kernel was, and is made whole again a
layer at a time while the layers are scanned, in the forward pass and once more in the backward one;
adapters and all other arithmetic stay as they were.
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int8, UInt8

from lorafuse_jax.types import UserError

Quantization = Literal["int8", "nf4"]
QUANTIZATIONS: tuple[Quantization, ...] = ("int8", "nf4")

BLOCK = 64
"""Input features that share an NF4 scale (QLoRA, arXiv 2305.14314, section 3)."""

NF4 = np.array(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    np.float32,
)
"""QLoRA's quantiles of the normal distribution (appendix E), as bitsandbytes prints them."""


class Int8Kernel(NamedTuple):
    """``kernel = values * scale``, one scale an output channel."""

    values: Int8[Array, "*L I O"]
    scale: Float[Array, "*L 1 O"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the kernel."""
        return self.values.shape


class Nf4Kernel(NamedTuple):
    """Two codes a byte; one scale a block of input features of an output channel.

    The scales are float16. QLoRA quantises them too, which saves another 0.12 bits a weight.
    """

    codes: UInt8[Array, "*L half O"]
    scale: Float[Array, "*L blocks O"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the kernel."""
        *layers, half, fan_out = self.codes.shape
        return (*layers, 2 * half, fan_out)


Kernel = Array | Int8Kernel | Nf4Kernel


def is_kernel(node: object) -> bool:
    """Whether a node of a parameter tree is a kernel as a whole (for ``jax.tree`` functions)."""
    return isinstance(node, Int8Kernel | Nf4Kernel)


@partial(jax.jit, static_argnums=1)
def quantize(kernel: Float[Array, "I O"], quantization: Quantization) -> Int8Kernel | Nf4Kernel:
    """Each weight to the nearest value that can be stored."""
    if quantization == "int8":
        scale = jnp.abs(kernel).max(axis=0, keepdims=True) / 127
        values = jnp.round(kernel / jnp.where(scale == 0, 1, scale))
        return Int8Kernel(values.astype(jnp.int8), scale)
    fan_in, fan_out = kernel.shape
    blocks = kernel.reshape(fan_in // _block(fan_in), -1, fan_out)
    scale = jnp.abs(blocks).max(axis=1).astype(jnp.float16)
    divisor = jnp.where(scale == 0, 1, scale).astype(jnp.float32)[:, None]
    ratios, middles = blocks / divisor, (NF4[1:] + NF4[:-1]) / 2
    # One pass over the weights; a search would hold fifteen comparisons of each.
    codes = jnp.zeros(ratios.shape, jnp.uint8)
    for middle in middles:
        codes += ratios > middle
    pairs = codes.reshape(fan_in // 2, 2, fan_out)
    return Nf4Kernel(pairs[:, 0] | (pairs[:, 1] << 4), scale)


def dequantize(kernel: Int8Kernel | Nf4Kernel, dtype) -> Float[Array, "*L I O"]:
    """The kernel that is computed with."""
    if isinstance(kernel, Int8Kernel):
        return kernel.values.astype(dtype) * kernel.scale.astype(dtype)
    *layers, half, fan_out = kernel.codes.shape
    codes = jnp.stack([kernel.codes & 15, kernel.codes >> 4], axis=-2)
    values = jnp.asarray(NF4, dtype)[codes].reshape(*layers, kernel.scale.shape[-2], -1, fan_out)
    return (values * kernel.scale.astype(dtype)[..., None, :]).reshape(*layers, 2 * half, fan_out)


def empty_kernel(shape: tuple[int, ...], quantization: Quantization) -> Int8Kernel | Nf4Kernel:
    """Of the right shapes [L, ...], to be filled layer by layer.

    Raises:
        UserError: the number of input features is odd, which NF4's bytes cannot hold.
    """
    layers, fan_in, fan_out = shape
    if quantization == "int8":
        return Int8Kernel(jnp.zeros(shape, jnp.int8), jnp.zeros((layers, 1, fan_out)))
    if fan_in % 2:
        raise UserError(f"nf4 stores pairs of input features, and a kernel has {fan_in}; take int8")
    blocks = fan_in // _block(fan_in)
    return Nf4Kernel(
        jnp.zeros((layers, fan_in // 2, fan_out), jnp.uint8),
        jnp.zeros((layers, blocks, fan_out), jnp.float16),
    )


def quantize_params(params, quantization: Quantization):
    """A parameter tree with the kernels of its layers quantised."""

    def one(path, leaf):
        if path[-1].key != "kernel":
            return leaf
        return jax.lax.map(partial(quantize, quantization=quantization), leaf)

    return params | {"layers": jax.tree_util.tree_map_with_path(one, params["layers"])}


def project(x: Float[Array, "*B I"], kernel: Kernel) -> Float[Array, "*B O"]:
    """``x @ kernel``, whatever the kernel is stored as."""
    if isinstance(kernel, Int8Kernel | Nf4Kernel):
        return _quantized_product(x, kernel)
    return x @ kernel


@jax.custom_vjp
def _quantized_product(x, kernel):
    return x @ dequantize(kernel, x.dtype)


def _quantized_forward(x, kernel):
    """What is kept for the backward pass is the kernel as it is stored, not the whole one."""
    return _quantized_product(x, kernel), kernel


def _quantized_backward(kernel, cotangent):
    return cotangent @ dequantize(kernel, cotangent.dtype).T, None


_quantized_product.defvjp(_quantized_forward, _quantized_backward)


def _block(fan_in: int) -> int:
    """The largest block of at most ``BLOCK`` features that divides a channel evenly."""
    return max(size for size in range(1, BLOCK + 1) if fan_in % size == 0)
