"""Where each parameter will lie, in what layout, and whether there is room for all of them."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lorafuse_jax import memory
from lorafuse_jax.models.quantized import Quantization, empty_kernel
from lorafuse_jax.types import UserError


class Planned(NamedTuple):
    """A parameter that is to be filled.

    Attributes:
        shape: of the parameter; that of a quantised kernel is as if it were not.
        make: gives a parameter of a shape, all zero.
        sharding: None is the default device.
    """

    shape: tuple[int, ...]
    make: Callable[[tuple[int, ...]], Any]
    sharding: Any

    def shapes(self) -> Any:
        """Of the array, or of those of a quantised kernel."""
        return jax.eval_shape(lambda: self.make(self.shape))

    def bytes_of_a_device(self) -> int:
        """That it will take; an error of jax's if it cannot be laid out as the sharding says."""
        shape = self.sharding.shard_shape if self.sharding else lambda shape: shape
        leaves = jax.tree.leaves(self.shapes())
        return sum(math.prod(shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def plan_params(spec, dtype, quantization, shardings: Mapping[str, Any]) -> dict[str, Planned]:
    """Slash-joined path -> how it is made; UserError for a sharding of no parameter."""
    if unknown := sorted(shardings.keys() - spec.keys()):
        raise UserError(f"shardings name {unknown[0]!r}; the parameters are {', '.join(spec)}")
    plan = {}
    for path, shape in spec.items():
        if is_quantized(path, quantization):
            make = partial(empty_kernel, quantization=quantization)
        else:
            make = partial(jnp.zeros, dtype=dtype)
        plan[path] = Planned(shape, make, shardings.get(path))
    return plan


def is_quantized(path: str, quantization: Quantization | None) -> bool:
    """Whether a parameter is kept quantised: the kernels of the layers are."""
    return bool(quantization) and path.startswith("layers/") and path.endswith("/kernel")


def check_fits(plan: Mapping[str, Planned], where: Path) -> None:
    """Raise UserError for a sharding that does not fit, or more memory than there is."""
    needed = 0
    for path, planned in plan.items():
        try:
            needed += planned.bytes_of_a_device()
        except (ValueError, IndexError) as error:
            raise UserError(f"{path} cannot be laid out as its sharding says: {error}") from error
    have = memory.usable_bytes()
    if have is not None and needed > have:
        raise UserError(
            f"the weights of {where} take {needed / 2**30:.1f} GiB, and {have / 2**30:.1f} GiB may "
            "be taken; load them in bfloat16, or quantised to int8 or nf4"
        )
