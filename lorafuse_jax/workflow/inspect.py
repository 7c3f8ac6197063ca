"""``lorafuse inspect``: how adapters relate, and what each operator would do to their norm."""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from lorafuse_jax.adapter import cosine, norm, take
from lorafuse_jax.formats.folder import check_free, new_folder
from lorafuse_jax.formats.members import Members
from lorafuse_jax.fusion import OPERATORS, Operator, get_operator
from lorafuse_jax.fusion.diagnostics import Diagnostics, applicable, diagnose, norm_after
from lorafuse_jax.report.inspection import (
    CAPTION,
    Inspection,
    ModuleLine,
    figure,
    markdown,
    summary_line,
    terminal_tables,
)
from lorafuse_jax.types import LoraPair, UserError
from lorafuse_jax.workflow.progress import console, meter, print_table

USUAL_OPERATORS = (
    "mean",
    "svd",
    "scaled_mean",
    "karcher",
    "model_stock",
    "ties",
    "dare_ties",
    "seedlora",
    "core_space:ties",
    "tsv",
    "iso",
)
"""One of every kind, and the controls; all of them would take minutes."""


def inspect(members: Members, operators: Sequence[str] | None, out: Path | None) -> Inspection:
    """Measure, and show; with ``out`` also write tables, numbers and a figure there.

    Args:
        members: two or more.
        operators: whose effect on the norm to tell, or ``("all",)`` that need no data; None are
            the usual ones.
        out: folder for ``inspect.md``, ``inspect.json`` and ``inspect.png``.

    Raises:
        UserError: a single member, an operator that is unknown or cannot fuse them, or ``out`` is
            taken; before any work.
    """
    size = len(members.names)
    if size < 2:
        raise UserError(f"{members.names[0]} is a single adapter: nothing to compare it with")
    if out is not None:
        check_free(out)
    ops = _operators(operators, size)
    diagnostics: dict[str, Diagnostics] = {}
    effects: dict[str, float] = {}
    with meter("inspecting", len(members.stacked) + len(ops)) as progress:
        for module, pair in members.stacked.items():
            assert isinstance(pair, LoraPair)
            diagnostics[module] = jax.device_get(jax.jit(diagnose)(pair))
            progress.advance(1, module)
        for op in ops:
            effects[op.name] = _norm_after(op, members)
            progress.advance(1, op.name)
    found = _inspection(members, diagnostics, effects)
    for table in terminal_tables(found):
        print_table(table)
        console.print()
    console.print(CAPTION, style="dim")
    console.print(summary_line(found))
    if out is not None:
        _write(found, diagnostics, out)
    return found


def _operators(names: Sequence[str] | None, size: int) -> list[Operator]:
    """Each once; of those that were not asked for by name, the applicable ones."""
    if names is None or tuple(names) == ("all",):
        return applicable(map(get_operator, OPERATORS if names else USUAL_OPERATORS), size)
    asked = {op.name: op for op in map(get_operator, names)}
    for op in asked.values():
        if op.statistic is not None:
            raise UserError(
                f"{op.name} needs {op.statistic}, which come from a model and data; what it does "
                "to the norm cannot be told from adapters alone"
            )
        if not applicable([op], size):
            raise UserError(f"{op.name} fuses {op.max_members} members at most, not {size}")
    return list(asked.values())


def _norm_after(op: Operator, members: Members) -> float:
    """Module by module where the operator allows it, so that little is held at a time."""
    key = jax.random.key(0)
    effect = jax.jit(lambda stacked: norm_after(op, stacked, key))
    if op.lift == "tree":
        return float(effect(members.stacked))
    squares = 0.0
    for module, update in members.stacked.items():
        alone = {module: update}
        lengths = [float(norm(take(alone, k))) for k in range(len(members.names))]
        squares += (float(effect(alone)) * sum(lengths) / len(lengths)) ** 2
    whole = [float(norm(take(members.stacked, k))) for k in range(len(members.names))]
    single = sum(whole) / len(whole)
    return squares**0.5 / single if single else 0.0


def _inspection(
    members: Members, diagnostics: dict[str, Diagnostics], effects: dict[str, float]
) -> Inspection:
    size = len(members.names)
    whole = [take(members.stacked, k) for k in range(size)]
    norms = np.array([float(norm(member)) for member in whole])
    cosines = np.array([[float(cosine(a, b)) for b in whole] for a in whole])
    lines = [_line(module, found) for module, found in diagnostics.items()]
    entries = []
    for pair in members.stacked.values():
        entries.append(pair[0].shape[1] * pair[0].shape[2] * pair[-1].shape[3])
    return Inspection(
        members=_short_names(members.names),
        lines=(*lines, _overall(lines, entries, norms, cosines)),
        cosines=cosines,
        norms=norms,
        by_layer={module: _mean_of_pairs(found.cosines) for module, found in diagnostics.items()},
        norm_after=effects,
    )


def _line(module: str, found: Diagnostics) -> ModuleLine:
    overlaps = np.asarray(found.overlaps).mean((0, 1))
    return ModuleLine(
        name=module,
        norm=float(np.sqrt((np.asarray(found.norms) ** 2).sum(0)).mean()),
        cosine=float(_mean_of_pairs(found.cosines).mean()),
        overlap_in=float(overlaps[0]),
        overlap_out=float(overlaps[1]),
        same_sign=float(np.mean(found.sign_agreement)),
        robust=float(np.mean(found.robust)),
        conflicting=float(np.mean(found.conflicting)),
        quiet=float(np.mean(found.quiet)),
    )


def _overall(
    lines: Sequence[ModuleLine], entries: Sequence[int], norms: np.ndarray, cosines: np.ndarray
) -> ModuleLine:
    mean = lambda name: float(np.average([getattr(x, name) for x in lines], weights=entries))  # noqa: E731
    shares = ("overlap_in", "overlap_out", "same_sign", "robust", "conflicting", "quiet")
    return ModuleLine(
        name="all",
        norm=float(norms.mean()),
        cosine=float(_mean_of_pairs(cosines[None])[0]),
        **{name: mean(name) for name in shares},
    )


def _mean_of_pairs(cosines) -> np.ndarray:
    """Of matrices [L, S, S], without their diagonals."""
    values = np.asarray(cosines)
    size = values.shape[-1]
    among = values.sum((-2, -1)) - np.trace(values, axis1=-2, axis2=-1)
    return among / (size * (size - 1))


def _short_names(names: Sequence[str]) -> tuple[str, ...]:
    """The folders' own names where they differ."""
    last = [Path(name).name for name in names]
    return tuple(last if len(set(last)) == len(last) else names)


def _write(found: Inspection, diagnostics: dict[str, Diagnostics], out: Path) -> None:
    numbers = {
        "members": found.members,
        "overall": vars(found.lines[-1]),
        "norms": found.norms.tolist(),
        "cosines": found.cosines.tolist(),
        "norm_after": dict(found.norm_after),
        "modules": {
            module: {name: np.asarray(values).tolist() for name, values in own._asdict().items()}
            for module, own in diagnostics.items()
        },
    }
    with new_folder(out) as whole:
        (whole / "inspect.md").write_text(markdown(found), encoding="utf-8")
        (whole / "inspect.json").write_text(json.dumps(numbers) + "\n", encoding="utf-8")
        figure(found).savefig(whole / "inspect.png", dpi=130)
    console.print(f"written: {out}")
