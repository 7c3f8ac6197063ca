"""Initialisations that take the update out of the base: PiSSA (2404.02948), OLoRA (2406.01775).

``kernel = residual + scale * A0 @ B0``: the residual is frozen in the kernel's place and A0, B0 are
trained on. The seeds share both, as the base is held once; so nothing is drawn, and initialisation
does not differ between seeds. (PiSSA's fast variant draws its sketch at random; here the SVD is the
exact one.) Dropout on the input of such an update drops inputs of a part of the base, as in PEFT.

What is trained so is, relative to the original base, the low-rank update ``scale * (A B - A0 B0)``
of rank 2 R, which is what is written, as by PEFT's ``path_initial_model_for_weight_conversion``.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.adapter_merge import merge_into
from lorafuse_jax.lora import LoraRule, adaptable_modules, match_rules, scaled
from lorafuse_jax.models.quantized import is_kernel
from lorafuse_jax.types import Adapter, LoraPair, Params, UserError

Split = Literal["pissa", "olora"]


def split_base(params: Params, rules: Sequence[LoraRule], init: Split) -> tuple[Params, Adapter]:
    """The residual base, and the adapter without its scale that makes the model whole again.

    The kernels of the original are left as they are: for a while both are in memory.

    Args:
        params: base weights.
        rules: which modules, and their ranks and scales.
        init: ``pissa`` takes the R principal directions, ``olora`` the first R of a QR.

    Raises:
        UserError: a kernel is quantised, or a rank is larger than a side of its kernel.
    """
    factors = {"pissa": pissa_factors, "olora": olora_factors}[init]
    shapes = adaptable_modules(params)
    start: Adapter = {}
    for module, rule in match_rules(shapes, rules).items():
        kernel = _kernel(params, module)
        if is_kernel(kernel):
            raise UserError(
                f"--init {init} subtracts a part of the base from it, which a base quantised "
                "beforehand would round away; leave out --quantization or --init"
            )
        if rule.rank > min(shapes[module][1:]):
            raise UserError(
                f"--init {init} cannot take {rule.rank} directions of {module}, which is [I, O] = "
                f"{list(shapes[module][1:])}; lower --rank"
            )
        make = partial(factors, rank=rule.rank, scale=rule.scale)
        start[module] = jax.lax.map(make, kernel.astype(jnp.float32))
    negative = {
        module: pair._replace(lora_b=-pair.lora_b) for module, pair in scaled(start, rules).items()
    }
    return merge_into(params, negative), start


def pissa_factors(kernel: Float[Array, "I O"], *, rank: int, scale: float) -> LoraPair:
    """``A0 = U_r sqrt(S_r / scale)``, ``B0 = sqrt(S_r / scale) V_r^T`` of the SVD (eq. 2 and 3).

    The division by the scale, so that ``scale * A0 B0`` is the principal part, is PEFT's; in the
    paper alpha is the rank.
    """
    left, values, right = jnp.linalg.svd(kernel, full_matrices=False)
    root = jnp.sqrt(values[:rank] / scale)
    return LoraPair(left[:, :rank] * root, root[:, None] * right[:rank])


def olora_factors(kernel: Float[Array, "I O"], *, rank: int, scale: float) -> LoraPair:
    """The first R rows and columns of ``QR`` of the weight [O, I] (algorithm 1): B0 is orthonormal.

    ``scale`` plays no part: as in PEFT, ``scale * A0 B0`` is what is taken out of the base.
    """
    orthonormal, upper = jnp.linalg.qr(kernel.T)
    return LoraPair(upper[:rank].T, orthonormal[:, :rank].T)


def relative_to_original(trained: Adapter, start: Adapter) -> Adapter:
    """``A B - A0 B0`` as one pair of rank 2 R: the update of the base before it was split.

    Args:
        trained: with its scale, leaves [L, ...].
        start: what it was at the start, with its scale.
    """
    result: Adapter = {}
    for module, pair in trained.items():
        first = start[module]
        assert isinstance(pair, LoraPair) and isinstance(first, LoraPair)
        result[module] = LoraPair(
            jnp.concatenate([pair.lora_a, first.lora_a], axis=-1),
            jnp.concatenate([pair.lora_b, -first.lora_b], axis=-2),
        )
    return result


def _kernel(params: Params, module: str):
    node = params
    for name in module.split("/"):
        node = node[name]
    return node["kernel"]
