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

from lorafuse_jax.fusion.hyperparameters import Real, check_share
from lorafuse_jax.fusion.operator import Operator
from lorafuse_jax.fusion.spectral.bases import closest_bases, shared_bases, stacked_svd
from lorafuse_jax.types import DenseDelta, LoraPair, UserError

Fuse = Callable[[LoraPair], LoraPair | DenseDelta]


def core_space(inner: Operator) -> Operator:
    """``inner`` on the members' K x K coordinates in bases that all members share, K = S * R.

    ``delta_s = U Z_s V`` loses nothing, so that ``core_space(mean)`` is ``mean``.

    Source: arXiv:2509.17786 (Core Space), section 4. Departures: the paper's bases are singular
    vectors of the concatenated factors, so that an entry-wise ``inner`` gives something else when
    a member is written as ``A Q, Q^-1 B``; by default ours are those of the concatenated deltas,
    which are as cheap and do not change. ``basis="factors"`` is the paper's. Members that are
    padded to a larger rank have more coordinates, which a density counts.
    """

    def in_core(
        pair: LoraPair, fuse: Fuse, *, basis: Literal["deltas", "factors"] = "deltas"
    ) -> LoraPair:
        left, right = shared_bases(pair, of_factors=basis == "factors")
        return _between(pair, fuse, left, right)

    return _in_space(inner, "core_space", "arXiv:2509.17786 (Core Space)", in_core)


def compress_then_merge(inner: Operator) -> Operator:
    """``inner`` on the members' r x r coordinates in bases of r directions that all share.

    Rank r by construction: compressed first, merged then. The bases keep the most of all members
    at once, ``max sum_s ||U^T c_s delta_s V||^2`` (Frobenius) over orthonormal U and V, by
    alternating between the two from the leading singular vectors of the concatenated deltas.
    ``c_s = (beta n_s + (1 - beta) mean(n)) / n_s`` with ``n_s = ||delta_s||``: members count for
    the bases by their norms (beta = 1) or alike (beta = 0). The coordinates are of the deltas.

    Source: arXiv:2606.03723 (Compress-then-Merge). Departures: ``iterations`` alternations, where
    the authors' code stops at a change of 1e-6; of random members five keep 99.7 % of what forty
    do, of members that share something all. It searches beta on validation data from 0 to 0.75; 0
    here is its default. ``iterations=0`` are the bases of the start, which keep clearly less.
    """

    def compressed(
        pair: LoraPair,
        fuse: Fuse,
        *,
        rank: int | None = None,
        beta: Real = 0.0,
        iterations: int = 5,
    ) -> LoraPair:
        if rank is not None and rank < 1:
            raise UserError(f"compress_then_merge: rank = {rank} is not possible: at least 1")
        if iterations < 0:
            raise UserError(
                f"compress_then_merge: iterations = {iterations} is not possible: at least 0"
            )
        check_share("compress_then_merge: beta", beta)
        size = rank or pair.lora_a.shape[-1]
        left, right = closest_bases(pair, size, beta, iterations)
        return _between(pair, fuse, left, right)

    source = "arXiv:2606.03723 (Compress-then-Merge)"
    return _in_space(inner, "compress_then_merge", source, compressed)


def knots(inner: Operator) -> Operator:
    """``inner`` on the V_s of ``[D_1|..|D_S] = U diag(s) [V_1^T|..|V_S^T]``; ``U diag(s) V^T``.

    Source: arXiv:2410.19735 (KnOTS), section 4. The D_s are the paper's [O, I] matrices, our
    deltas transposed; they are never made, nor their SVD. Departures: none. The authors' code
    merges ``diag(s) V_s^T`` instead, ``merged="scaled"``: the same as long as ``inner`` compares
    no entries of different directions, as trimming does.
    """

    def aligned(
        pair: LoraPair, fuse: Fuse, *, merged: Literal["directions", "scaled"] = "directions"
    ) -> LoraPair:
        rows = stacked_svd(jax.lax.stop_gradient(pair))
        if merged == "directions":
            return _times(fuse(rows.coordinates), rows.singular[:, None] * rows.basis)
        blocks = rows.coordinates.lora_b * rows.singular
        return _times(fuse(rows.coordinates._replace(lora_b=blocks)), rows.basis)

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
    if not inner.sign_equivariant:
        raise UserError(
            f"{name} cannot take {inner.name}: singular vectors have no sign, it depends on signs"
        )
    if not inner.layerwise:
        raise UserError(
            f"{name} cannot take {inner.name}: it works on all layers, a space on one at a time"
        )
    own = [p for p in inspect.signature(space).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if both := sorted({p.name for p in own} & inner.hyperparameters.keys()):
        raise UserError(f"{name} cannot take {inner.name}: both have a setting {both[0]!r}")

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
    """The parameters of the operator, and those of the space after them.

    Without ``scope``: in a space there is one module of one layer.
    """
    others = [p for p in signature.parameters.values() if p.name != "scope"]
    return signature.replace(parameters=[*others, *own])
