"""How a run's seeds relate layer by layer, for its report: some rows of each matrix.

Kept in ``RUN/diagnostics.json`` for as long as no adapter changes. By the formulas of
``fusion.diagnostics``, on NumPy arrays: compiling them for every shape takes longer than this.
``lorafuse inspect`` takes all rows, and principal angles.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import Float

from lorafuse_jax.formats import load_peft
from lorafuse_jax.formats.dense import DELTA_FILE, ENDING, is_dense
from lorafuse_jax.formats.dora import is_dora
from lorafuse_jax.formats.layers import LayerKey, parse_hf_name
from lorafuse_jax.formats.tensors import files_of, open_tensors
from lorafuse_jax.fusion.diagnostics import LARGE, cosines_of, shares_of_entries
from lorafuse_jax.report.sections.diagnostics import LayerDiagnostics, ModuleDiagnostics
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import ENDS, LoraPair, UserError
from lorafuse_jax.workflow.method_full import is_whole_model
from lorafuse_jax.workflow.remembered import remembered

ROWS = 64
"""Of a matrix that are looked at for signs."""
Factors = tuple[Float[np.ndarray, "_ _"], Float[np.ndarray, "_ _"]]
"""[I, R] and [R, O]; a dense matrix [I, O] has an empty one beside it."""
Update = dict[LayerKey, Callable[[], Factors]]
"""Reads one matrix of an adapter."""


def layer_diagnostics(run: RunFolder) -> LayerDiagnostics | str:
    """What the report shows of them, or a sentence why there is nothing to show."""
    seeds = {f"seed-{seed}": run.adapter_path(seed) for seed in run.trained_seeds()}
    if reason := _unfit(seeds):
        return reason
    fused = {name: run.fused_path(name) for name in run.fused_names()}
    try:
        found = remembered(
            run.path / "diagnostics.json",
            {**seeds, **fused},
            lambda: asdict(_measure(seeds, fused)),
            rows=ROWS,
            large=LARGE,
            shares=list(ModuleDiagnostics.__dataclass_fields__),
        )
    except UserError as error:
        return f"The updates of the seeds cannot be compared: {error}."
    modules = {name: ModuleDiagnostics(**own) for name, own in found["modules"].items()}
    return LayerDiagnostics(**found | {"modules": modules})


def _unfit(seeds: Mapping[str, Path]) -> str:
    if len(seeds) < 2:
        return "There is one seed: no other update to compare its own with."
    if any(map(is_whole_model, seeds.values())):
        return "The seeds are whole models (--method full), which have no updates to compare."
    if any(map(is_dora, seeds.values())):
        return (
            "What DoRA adds depends on the weights of the base, which a report does not load; "
            "lorafuse inspect compares such updates."
        )
    return ""


def _measure(seeds: Mapping[str, Path], fused: Mapping[str, Path]) -> LayerDiagnostics:
    updates = {name: _open(path) for name, path in seeds.items()}
    keys = sorted(next(iter(updates.values())))
    for name, update in updates.items():
        if sorted(update) != keys:
            raise UserError(f"{name} adapts other modules than {next(iter(updates))}")
    modules = list(dict.fromkeys(key.module for key in keys))
    layers = 1 + max(key.layer for key in keys)
    empty = lambda: [None] * layers  # noqa: E731
    fields = ("cosine", "same_sign", "robust", "conflicting")
    values: dict[str, dict[str, list]] = {m: {f: empty() for f in fields} for m in modules}
    squares = {name: np.zeros(layers) for name in (*seeds, *fused)}
    for key in keys:
        matrices = [update[key]() for update in updates.values()]
        gram = np.array([[_inner(a, b) for b in matrices] for a in matrices])
        if key.module not in ENDS:
            for name, square in zip(seeds, gram.diagonal(), strict=True):
                squares[name][key.layer] += square
        cosine = cosines_of(gram)[np.triu_indices(len(gram), 1)].mean()
        measured = (cosine, *_shares([_some_rows(m) for m in matrices]))
        for field, value in zip(fields, measured, strict=True):
            values[key.module][field][key.layer] = float(value)
    for name, path in fused.items():
        for key, read in _open(path).items():
            if key.layer < layers and key.module not in ENDS:
                matrix = read()
                squares[name][key.layer] += _inner(matrix, matrix)
    norms = {name: np.sqrt(square).tolist() for name, square in squares.items()}
    return LayerDiagnostics(
        rows=ROWS,
        modules={m: ModuleDiagnostics(**own) for m, own in values.items()},
        norms={name: norms[name] for name in seeds},
        fused={name: norms[name] for name in fused},
    )


def _open(folder: Path) -> Update:
    """Its matrices, in float32; dense ones are read one at a time, as they may be large."""
    if is_dense(folder):
        return _open_dense(folder / DELTA_FILE)
    update: Update = {}
    for module, pair in load_peft(folder).items():
        assert isinstance(pair, LoraPair)
        a, b = (np.asarray(leaf, np.float32) for leaf in pair)
        for layer in range(len(a)):
            update[LayerKey(module, layer)] = lambda a=a, b=b, n=layer: (a[n], b[n])
    return update


def _open_dense(path: Path) -> Update:
    update: Update = {}
    for name, file in files_of(path).items():
        key = parse_hf_name(name.removesuffix(ENDING))
        if key is None:
            raise UserError(f"{file}: {name} is no name of a module")
        update[key] = lambda file=file, name=name: _dense_factors(file, name)
    return update


def _dense_factors(file: Path, name: str) -> Factors:
    with open_tensors(file) as tensors:
        delta = np.asarray(tensors.get_tensor(name), np.float32)
    return delta, np.eye(0, dtype=np.float32)


def _is_dense(matrix: Factors) -> bool:
    return matrix[1].shape == (0, 0)


def _inner(first: Factors, second: Factors) -> float:
    """Frobenius inner product."""
    if _is_dense(first) or _is_dense(second):
        return float(np.vdot(_whole(first), _whole(second)))
    return float(((first[0].T @ second[0]) * (first[1] @ second[1].T)).sum())


def _whole(matrix: Factors) -> Float[np.ndarray, "_ _"]:
    return matrix[0] if _is_dense(matrix) else matrix[0] @ matrix[1]


def _some_rows(matrix: Factors) -> Float[np.ndarray, "rows O"]:
    """Evenly spaced ones, enough for shares of entries."""
    rows = np.unique(np.linspace(0, len(matrix[0]) - 1, ROWS).round().astype(int))
    return _whole((matrix[0][rows], matrix[1]))


def _shares(members: list[Float[np.ndarray, "rows O"]]) -> list[float]:
    entries = np.stack(members)
    thresholds = np.quantile(np.abs(entries), LARGE, axis=(1, 2), keepdims=True)
    return shares_of_entries(entries, thresholds)
