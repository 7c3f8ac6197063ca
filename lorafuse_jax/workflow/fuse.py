"""``lorafuse fuse``: one operator over the seeds of a run, or over PEFT adapters from anywhere."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lorafuse_jax.adapter import norm, squared_norm, take
from lorafuse_jax.adapter_spectral import truncate
from lorafuse_jax.formats import is_adapter, read_provenance, save_peft
from lorafuse_jax.formats.dense import save_dense
from lorafuse_jax.formats.folder import check_free
from lorafuse_jax.formats.members import Members
from lorafuse_jax.full_rank import as_deltas
from lorafuse_jax.fusion import Operator, compose, get_operator, parse_settings
from lorafuse_jax.run_folder import RunFolder, versions
from lorafuse_jax.types import Adapter, LoraPair, UserError
from lorafuse_jax.workflow.cost import spending
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

    A low-rank result is a PEFT folder. A dense one without ``rank`` is a folder of deltas, written
    module by module, for ``lorafuse export``.

    Args:
        members: what to fuse.
        request: how.
        out: the folder to write.
        **about: more for the provenance.

    Raises:
        UserError: a wrong setting, or ``out`` holds something else; before anything is computed.
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
    parts = _fused_parts(op, members, request, hyper)
    kept = _write(parts, members, request, out, provenance)
    single = [float(norm(take(members.stacked, k))) for k in range(len(members.names))]
    shrunk = f" · rank {request.rank} keeps {kept.share:.1%} of the norm" if request.rank else ""
    console.print(
        f"{op.name}: {len(members.names)} members fused in {time.perf_counter() - began:.1f} s · "
        f"norm {kept.norm * len(single) / sum(single):.2f} of a member's{shrunk} · {out}"
    )
    return out


@dataclass
class _Kept:
    """Squared norms, module by module: of what was written, and before its compression."""

    written: float = 0.0
    before: float = 0.0

    @property
    def norm(self) -> float:
        return self.written**0.5

    @property
    def share(self) -> float:
        return (self.written / self.before) ** 0.5 if self.before else 1.0


def _fused_parts(
    op: Operator, members: Members, request: FuseRequest, hyper: dict[str, Any]
) -> Iterator[Adapter]:
    """The result, module by module where the operator allows it."""
    if request.rank is not None:
        op = compose(op, partial(_truncate_and_measure, rank=request.rank))
    extra: dict[str, Any] = dict(hyper)
    if op.stochastic:
        extra["key"] = jax.random.key(request.key_seed)
    if request.weights is not None:
        extra["weights"] = jnp.array(request.weights)
    stacked = members.stacked
    parts = [stacked] if op.lift == "tree" else [{m: update} for m, update in stacked.items()]
    fused = jax.jit(lambda part: op(part, **extra))
    with meter(f"fusing {op.name}", len(parts)) as progress:
        for part in parts:
            yield jax.block_until_ready(fused(part))
            progress.advance(1, next(iter(part)))


def _write(
    parts: Iterator[Adapter],
    members: Members,
    request: FuseRequest,
    out: Path,
    provenance: dict[str, Any],
) -> _Kept:
    kept = _Kept()

    def measured() -> Iterator[Adapter]:
        for part in parts:
            if request.rank is not None:
                part, before = _split_measure(part)
                kept.before += before
            elif members.full_rank:
                part = as_deltas(part)
            kept.written += float(squared_norm(part))
            _check_result(part, kept.written)
            yield part

    stream = measured()
    first = next(stream)
    if all(isinstance(update, LoraPair) for update in first.values()):
        whole = dict(first)
        for part in stream:
            whole |= part
        save_peft(
            out,
            whole,
            base_model=members.base_model,
            provenance=provenance,
            carried=members.carried,
            pad_rank=request.pad_rank,
        )
        return kept
    if request.pad_rank:
        raise UserError(f"{request.operator} gives a dense result: --pad-rank needs --rank")
    dense = (part for some in ([first], stream) for part in some)
    about = {**provenance, "carried": members.carried}
    save_dense(out, dense, base_model=members.base_model, provenance=about)
    return kept


def _truncate_and_measure(adapter: Adapter, rank: int) -> Adapter:
    """The best approximation of that rank, and after it a direction as long as the original.

    An operator's result goes through layer by layer and is nowhere whole, so its norm has to come
    out with what is kept of it.
    """

    def one_layer(update: Any) -> LoraPair:
        pair = truncate(update, rank)
        length = norm({"": jax.tree.map(lambda leaf: leaf[None], update)})
        column = jnp.zeros_like(pair.lora_a[:, :1]).at[0].set(length)
        row = jnp.zeros_like(pair.lora_b[:1]).at[:, 0].set(1)
        return LoraPair(
            jnp.concatenate([pair.lora_a, column], axis=1),
            jnp.concatenate([pair.lora_b, row], axis=0),
        )

    return {module: jax.lax.map(one_layer, update) for module, update in adapter.items()}


def _split_measure(adapter: Adapter) -> tuple[Adapter, float]:
    """What ``_truncate_and_measure`` joined: the adapter, and the squared norm before."""
    kept: Adapter = {}
    before = 0.0
    for module, update in adapter.items():
        assert isinstance(update, LoraPair)
        kept[module] = LoraPair(update.lora_a[..., :-1], update.lora_b[..., :-1, :])
        before += float(jnp.sum(jnp.square(update.lora_a[:, 0, -1].astype(jnp.float32))))
    return kept, before


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


def _check_result(part: Adapter, squared: float) -> None:
    if not squared < float("inf"):
        raise UserError(f"the result for {next(iter(part))} is not finite; nothing was written")


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
