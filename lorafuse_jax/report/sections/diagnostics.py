"""How the seeds' updates relate, and what fusing did to their size, layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lorafuse_jax.report.drawing import strips
from lorafuse_jax.report.markup import Html, Row, figure, join, paragraphs, table

Layers = Sequence[float | None]
"""A number a layer; None where the layer has no such module."""


@dataclass(frozen=True, kw_only=True)
class ModuleDiagnostics:
    """One module of all members, a number a layer.

    Attributes:
        cosine: mean over pairs of members, of their deltas as vectors.
        same_sign: share of entries of one sign, mean over pairs; one half by chance.
        robust: share of entries that members are large in with one sign.
        conflicting: share of entries that members are large in with both signs.
    """

    cosine: Layers
    same_sign: Layers
    robust: Layers
    conflicting: Layers


@dataclass(frozen=True, kw_only=True)
class LayerDiagnostics:
    """What ``workflow.layer_diagnostics`` measured.

    Attributes:
        rows: of each matrix whose entries were looked at for signs, at most.
        modules: by name.
        norms: member -> Frobenius norm of all its modules in each layer.
        fused: fused adapter -> likewise.
    """

    rows: int
    modules: Mapping[str, ModuleDiagnostics]
    norms: Mapping[str, Layers]
    fused: Mapping[str, Layers]


def diagnostics(found: LayerDiagnostics | str) -> Html:
    """Heat maps by module and layer, and their means as a table; or a sentence why not."""
    if isinstance(found, str):
        return paragraphs([found])
    modules = {_short(name): own for name, own in found.modules.items()}
    share = "{:.1%}".format
    cosines = {name: own.cosine for name, own in modules.items()}
    signs = {name: own.same_sign for name, own in modules.items()}
    conflicts = {name: _conflict(own) for name, own in modules.items()}
    mean = _mean_norms(list(found.norms.values()))
    sizes = {name: _over(own, mean) for name, own in {**found.norms, **found.fused}.items()}
    return join(
        [
            paragraphs([_in_words(found)]),
            _map("Cosine of two seeds' updates, by layer", cosines, "{:+.3f}".format),
            _map("Entries of one sign in two seeds, by layer", signs, share, middle=0.5),
            _map(
                "Of the entries that seeds are large in, those with both signs, by layer",
                conflicts,
                share,
            ),
            _map(
                "Norm over the mean norm of the seeds, by layer",
                sizes,
                "{:.2f}".format,
                middle=1.0,
                note="Cold: smaller than a seed's update; warm: larger.",
            ),
            _means(found, modules),
        ]
    )


def _in_words(found: LayerDiagnostics) -> str:
    cosine = _mean([x for own in found.modules.values() for x in own.cosine])
    size = len(found.norms)
    kept = max(0.0, (1 + (size - 1) * cosine) / size) ** 0.5
    return (
        f"The updates of {size} seeds have a mean cosine of {cosine:.3f}: their plain mean keeps "
        f"about {kept:.0%} of one seed's norm. The number beside a strip is its mean."
    )


def _map(
    title: str, rows: Mapping[str, Layers], form, *, middle: float = 0.0, note: str = ""
) -> Html:
    there = [x for own in rows.values() for x in own if x is not None]
    limit = max((abs(x - middle) for x in there), default=0.0)
    means = "; ".join(f"{name} {form(_mean(own))}" for name, own in rows.items())
    drawn = strips(
        list(rows.items()), f"{title}. Means: {means}", limit=limit, middle=middle, form=form
    )
    scale = f"Full colour is {form(limit + middle)}" + (
        f", none is {form(middle)}." if middle else ", none is 0."
    )
    return figure(title, drawn, note=f"{note} {scale}".strip())


def _means(found: LayerDiagnostics, modules: Mapping[str, ModuleDiagnostics]) -> Html:
    rows = [
        Row(
            [
                name,
                f"{_mean(own.cosine):+.3f}",
                *(
                    f"{100 * _mean(part):.1f}"
                    for part in (own.same_sign, own.robust, own.conflicting)
                ),
            ]
        )
        for name, own in modules.items()
    ]
    return table(
        "Means over layers",
        ["module", "cosine", "one sign %", "robust %", "conflicting %"],
        rows,
        note="Robust: entries that some seed is large in (top 10 % of its own), all of one sign; "
        "conflicting: with both. Entries were counted on evenly spaced rows of each matrix, "
        f"{found.rows} at most. lorafuse inspect has more.",
    )


def _conflict(own: ModuleDiagnostics) -> Layers:
    return [
        None if robust is None or both is None else both / (robust + both or 1.0)
        for robust, both in zip(own.robust, own.conflicting, strict=True)
    ]


def _mean_norms(members: Sequence[Layers]) -> Layers:
    return [None if None in values else _mean(values) for values in zip(*members, strict=True)]


def _over(own: Layers, mean: Layers) -> Layers:
    return [x / m if x is not None and m else None for x, m in zip(own, mean, strict=True)]


def _mean(values: Sequence[float | None]) -> float:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else 0.0


def _short(module: str) -> str:
    return module.removeprefix("layers/").replace("/*/", "/")
