"""Spaces in which any operator can work: bring the members there, fuse, bring the result back.

``core_space(ties)`` is an operator called ``core_space:ties`` with the settings of both. Entry-wise
operators depend on the basis in which entries are entries: in a space they are not what they are on
dense deltas, and they are much cheaper.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import jax
from jaxtyping import Array, Float

from lorafuse_jax.fusion.operator import Operator
from lorafuse_jax.fusion.spectral.bases import shared_bases, stacked_svd
from lorafuse_jax.types import DenseDelta, LoraPair, UserError

Fuse = Callable[[LoraPair], LoraPair | DenseDelta]


def core_space(inner: Operator) -> Operator:
    """``inner`` on the members' K x K coordinates in bases that all members share, K = S * R.

    ``delta_s = U Z_s V`` loses nothing, so that ``core_space(mean)`` is ``mean``.

    Source: arXiv:2509.17786 (Core Space), section 4. Departures: the paper's bases are singular
    vectors of the concatenated factors, so that an entry-wise ``inner`` gives something else when
    a member is written as ``A Q, Q^-1 B``; by default ours are those of the concatenated deltas,
    which are as cheap and do not change. ``basis="factors"`` is the paper's.
    """

    def in_core(
        pair: LoraPair, fuse: Fuse, *, basis: Literal["deltas", "factors"] = "deltas"
    ) -> LoraPair:
        left, right = shared_bases(pair, of_factors=basis == "factors")
        return _between(pair, fuse, left, right)

    return _in_space(inner, "core_space", "arXiv:2509.17786 (Core Space)", in_core)


def compress_then_merge(inner: Operator) -> Operator:
    """``inner`` on the members' r x r coordinates in the leading directions that all share.

    Rank r by construction: compressed first, merged then.

    Source: arXiv:2606.03723 (Compress-then-Merge). Departures: known from its abstract and notes.
    The bases are the leading singular vectors of ``[delta_1|..|delta_S]`` and ``[delta_1; ..]``.
    """

    def compressed(pair: LoraPair, fuse: Fuse, *, rank: int | None = None) -> LoraPair:
        if rank is not None and rank < 1:
            raise UserError(f"compress_then_merge: rank = {rank} is not possible: at least 1")
        size = rank or pair.lora_a.shape[-1]
        left, right = shared_bases(pair)
        return _between(pair, fuse, left[:, :size], right[:size])

    source = "arXiv:2606.03723 (Compress-then-Merge)"
    return _in_space(inner, "compress_then_merge", source, compressed)


def knots(inner: Operator) -> Operator:
    """``inner`` on the V_s of ``[D_1|..|D_S] = U diag(s) [V_1^T|..|V_S^T]``; ``U diag(s) V^T``.

    Source: arXiv:2410.19735 (KnOTS), section 4. The D_s are the paper's [O, I] matrices, our
    deltas transposed. Departures: none; from the factors instead of an SVD of dense deltas.
    """

    def aligned(pair: LoraPair, fuse: Fuse) -> LoraPair:
        rows = stacked_svd(jax.lax.stop_gradient(pair))
        return _times(fuse(rows.coordinates), rows.singular[:, None] * rows.basis)

    return _in_space(inner, "knots", "arXiv:2410.19735 (KnOTS)", aligned)


def _between(
    pair: LoraPair, fuse: Fuse, left: Float[Array, "I K"], right: Float[Array, "J O"]
) -> LoraPair:
    """``left fuse(left^T delta_s right^T) right``; an inner mean is never made dense."""
    fused = fuse(LoraPair(left.T @ pair.lora_a, pair.lora_b @ right.T))
    if isinstance(fused, DenseDelta):
        return LoraPair(left @ fused.delta, right)
    return LoraPair(left @ fused.lora_a, fused.lora_b @ right)


def _times(update: LoraPair | DenseDelta, right: Float[Array, "K O"]) -> LoraPair:
    if isinstance(update, DenseDelta):
        return LoraPair(update.delta, right)
    return LoraPair(update.lora_a, update.lora_b @ right)


def _in_space(inner: Operator, name: str, source: str, space: Callable[..., LoraPair]) -> Operator:
    if inner.statistic is not None or not inner.basis_invariant:
        raise UserError(f"{name} cannot take {inner.name}: it works on more than deltas")
    own = [p for p in inspect.signature(space).parameters.values() if p.kind is p.KEYWORD_ONLY]

    def fuse_in_space(pair: LoraPair, *, weights: Float[Array, " S"], **settings: Any) -> LoraPair:
        here = {p.name: settings.pop(p.name) for p in own}

        def fuse(members: LoraPair) -> LoraPair | DenseDelta:
            alone = jax.tree.map(lambda leaf: leaf[:, None], members)
            fused = inner({"": alone}, weights=weights, **settings)[""]
            return jax.tree.map(lambda leaf: leaf[0], fused)

        return space(pair, fuse, **here)

    fuse_in_space.__signature__ = _joined(inspect.signature(inner.fn), own)  # pyrefly: ignore
    return replace(
        inner,
        name=f"{name}:{inner.name}",
        fn=fuse_in_space,
        source=f"{source} with {inner.source}",
        lift="module",
        stream=True,
        transforms=(),
    )


def _joined(signature: inspect.Signature, own: list[inspect.Parameter]) -> inspect.Signature:
    """The parameters of the operator, and those of the space after them."""
    return signature.replace(parameters=[*signature.parameters.values(), *own])
