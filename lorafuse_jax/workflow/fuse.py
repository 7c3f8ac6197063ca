"""``lorafuse fuse``: one operator over the seeds of a run, or over PEFT adapters from anywhere."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from lorafuse_jax.adapter import squared_norm
from lorafuse_jax.formats import is_adapter, read_provenance
from lorafuse_jax.formats.dense import write_dense
from lorafuse_jax.formats.folder import check_free, disk_full_is_said
from lorafuse_jax.formats.members import Members
from lorafuse_jax.formats.peft import write_peft
from lorafuse_jax.formats.pieces import Piece
from lorafuse_jax.fusion import Operator, get_operator, parse_settings
from lorafuse_jax.run_folder import RunFolder, versions
from lorafuse_jax.types import LoraPair, UserError
from lorafuse_jax.workflow.cost import spending
from lorafuse_jax.workflow.fused_pieces import FusedPiece, FusedPieces
from lorafuse_jax.workflow.members import best_seed, members_of_run
from lorafuse_jax.workflow.progress import console, meter


@dataclass(frozen=True, kw_only=True)
class FuseRequest:
    """What to do with the members.

    Attributes:
        operator: a name that ``fusion.get_operator`` knows.
        settings: hyper-parameters as ``name=value``.
        weights: one a member; equal by default.
        rank: bring the result to this rank.
        pad_rank: write the result with a rank that vLLM serves.
        key_seed: randomness of a stochastic operator.
    """

    operator: str
    settings: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    rank: int | None = None
    pad_rank: bool = False
    key_seed: int = 0


def fuse_run(run: RunFolder, request: FuseRequest, out: Path) -> Path:
    """Fuse a run's seeds; ``reference=best`` is the seed that is best on validation."""
    hyper = parse_settings(get_operator(request.operator), request.settings)
    if hyper.get("reference") == "best" and "best" not in hyper:
        best = run.trained_seeds().index(best_seed(run))
        settings = (*request.settings, f"best={best}")
        request = replace(request, settings=settings)
    fingerprint = run.config()["model_fingerprint"]
    members, there = members_of_run(run), is_adapter(out)
    with spending(run, "fuse", out.name) as counts:
        fuse(members, request, out, base_fingerprint=fingerprint)
        counts["members"] += 0 if there else len(members.names)
    return out


def fuse(members: Members, request: FuseRequest, out: Path, **about: Any) -> Path:
    """Fuse and write the result; one that is there already is kept.

    A low-rank result is a PEFT folder. A dense one without ``rank`` is a folder of deltas, for
    ``lorafuse export``. Members are read and the result is written piece by piece, see
    ``FusedPieces``.

    Args:
        members: what to fuse.
        request: how.
        out: the folder to write.
        **about: more for the provenance.

    Raises:
        UserError: a wrong setting, ``out`` holds something else, or the disk has no room for it;
            before anything is computed.
    """
    op = get_operator(request.operator)
    hyper = op.resolve(parse_settings(op, request.settings))
    _check_request(op, request, members)
    provenance = {
        "operator": op.name,
        "hyperparameters": hyper,
        "rank": request.rank,
        "weights": list(request.weights) if request.weights else None,
        "key_seed": request.key_seed if op.stochastic else None,
        "members": [
            {"name": Path(name).name, "sha256": digest}
            for name, digest in zip(members.names, members.hashes, strict=True)
        ],
        "source": op.source,
        "versions": versions(),
        **about,
    }
    if _is_there(out, provenance):
        console.print(f"fused already: {out}")
        return out
    check_free(out)
    began = time.perf_counter()
    pieces = _fused(op, members, request, hyper)
    kept = _Kept(len(members.names))
    with disk_full_is_said(out):
        _write(pieces, kept, members, request, out, provenance)
    shrunk = f" · rank {request.rank} keeps {kept.share:.1%} of the norm" if request.rank else ""
    console.print(
        f"{op.name}: {len(members.names)} members fused in {time.perf_counter() - began:.1f} s · "
        f"norm {kept.against_members:.2f} of a member's{shrunk} · {out}"
    )
    return out


class _Kept:
    """Squared norms, piece by piece: of what was written, before its compression, of members."""

    def __init__(self, members: int) -> None:
        self.written, self.before = 0.0, 0.0
        self.members = [0.0] * members

    @property
    def against_members(self) -> float:
        """The result's norm in those of a member, on average."""
        single = [squared**0.5 for squared in self.members]
        return self.written**0.5 * len(single) / sum(single)

    @property
    def share(self) -> float:
        return (self.written / self.before) ** 0.5 if self.before else 1.0

    def count(self, fused: FusedPiece) -> None:
        """Add a piece.

        Raises:
            UserError: it is not finite.
        """
        module, first, update = fused.piece
        self.before += fused.before
        self.members = [a + b for a, b in zip(self.members, fused.members, strict=True)]
        self.written += float(squared_norm({module: update}))
        if not self.written < float("inf"):
            raise UserError(
                f"the result for {module} is not finite (layer {first} or one soon after it); "
                "nothing was written"
            )


def _fused(
    op: Operator, members: Members, request: FuseRequest, hyper: dict[str, Any]
) -> FusedPieces:
    arguments: dict[str, Any] = dict(hyper)
    if request.weights is not None:
        arguments["weights"] = jnp.array(request.weights)
    return FusedPieces(op, members, arguments, rank=request.rank, key_seed=request.key_seed)


def _write(
    pieces: FusedPieces,
    kept: _Kept,
    members: Members,
    request: FuseRequest,
    out: Path,
    provenance: dict[str, Any],
) -> None:
    low_rank = all(isinstance(update, LoraPair) for update in pieces.like.values())
    if request.pad_rank and not low_rank:
        raise UserError(f"{request.operator} gives a dense result: --pad-rank needs --rank")

    def measured() -> Iterator[Piece]:
        with meter(f"fusing {request.operator}", pieces.count) as progress:

            def measure(fused: FusedPiece) -> Piece:
                kept.count(fused)
                progress.advance(1, fused.piece.module)
                return fused.piece

            # unlike a loop, it holds no piece while the next is made
            yield from map(measure, pieces)

    if low_rank:
        about: dict[str, Any] = {"provenance": provenance, "carried": members.carried}
        about |= {"base_model": members.base_model, "pad_rank": request.pad_rank}
        write_peft(out, pieces.like, measured(), **about)
        return
    about = {**provenance, "carried": members.carried}
    write_dense(out, pieces.like, measured(), base_model=members.base_model, provenance=about)


def _check_request(op: Operator, request: FuseRequest, members: Members) -> None:
    if op.statistic is not None:
        raise UserError(
            f"{op.name} needs {op.statistic}, which come from a model and data; it can be used "
            "from Python: see lorafuse_jax.fusion.learned"
        )
    if request.rank is not None and request.rank < 1:
        raise UserError(f"--rank {request.rank} is not possible: at least 1")
    if request.weights is not None and len(request.weights) != len(members.names):
        raise UserError(
            f"there are {len(request.weights)} weights and {len(members.names)} members: "
            f"{', '.join(members.names)}"
        )


def _is_there(out: Path, asked: dict[str, Any]) -> bool:
    """Whether ``out`` holds this very fusion; UserError if it holds another."""
    if not is_adapter(out):
        return False
    there = read_provenance(out)
    for key in ("operator", "hyperparameters", "rank", "weights", "key_seed", "members"):
        if there.get(key) != asked[key]:
            raise UserError(
                f"{out} holds another fusion ({key}: {there.get(key)}, now {asked[key]}); name "
                "another folder with --out"
            )
    return True
