"""``lorafuse fuse``: one operator over the seeds of a run."""

import json
import time
from functools import partial
from hashlib import sha256
from pathlib import Path

import jax

from lorafuse_jax.adapter import norm, stack, take
from lorafuse_jax.formats import load_adapter, save_adapter
from lorafuse_jax.fusion import get_operator
from lorafuse_jax.fusion.operator import parse_settings
from lorafuse_jax.run_folder import RunFolder, versions
from lorafuse_jax.types import Adapter, UserError
from lorafuse_jax.workflow.progress import console


def load_members(run: RunFolder) -> tuple[list[int], Adapter]:
    """The seeds of a run and their adapters, stacked.

    Raises:
        UserError: a seed's adapter is missing.
    """
    seeds = run.config()["seeds"]
    missing = [seed for seed in seeds if not run.adapter_path(seed).exists()]
    if missing:
        raise UserError(
            f"{run.path} has no adapter for seed {missing[0]} yet; repeat its lorafuse train"
        )
    return seeds, stack([load_adapter(run.adapter_path(seed)) for seed in seeds])


def best_seed(run: RunFolder) -> int:
    """The seed with the lowest held-out loss after the last step: chosen on validation alone."""
    last = {line["seed"]: line["heldout_loss"] for line in run.metrics() if "heldout_loss" in line}
    if not last:
        raise UserError(f"{run.metrics_path} has no held-out loss; was the training finished?")
    return min(last, key=lambda seed: last[seed])


def fuse(run: RunFolder, operator: str, settings: list[str], out: Path, key_seed: int = 0) -> Path:
    """Fuse the run's adapters and write the result; one that is there already is kept.

    Args:
        run: with all its adapters.
        operator: a name from ``fusion.OPERATORS``.
        settings: ``name=value`` hyper-parameters.
        out: the folder to write.
        key_seed: randomness of stochastic operators.
    """
    op = get_operator(operator)
    hyper = parse_settings(op, settings)
    seeds, stacked = load_members(run)
    if hyper.get("reference") == "best" and "best" not in hyper:
        hyper["best"] = seeds.index(best_seed(run))
    asked = {"operator": operator, "hyperparameters": op.resolve(hyper)}
    if _is_there(out, asked):
        console.print(f"fused already: {out}")
        return out
    key = jax.random.key(key_seed) if op.stochastic else None
    began = time.perf_counter()
    fused = jax.block_until_ready(jax.jit(partial(op, key=key, **hyper))(stacked))
    seconds = time.perf_counter() - began
    provenance = {
        **asked,
        "source": op.source,
        "key_seed": key_seed if op.stochastic else None,
        "members": {f"seed-{seed}": folder_hash(run.adapter_path(seed)) for seed in seeds},
        "base_fingerprint": run.config()["model_fingerprint"],
        "versions": versions(),
    }
    save_adapter(out, fused, base_model=run.config()["model"], provenance=provenance)
    member_norm = sum(float(norm(take(stacked, k))) for k in range(len(seeds))) / len(seeds)
    console.print(
        f"{operator}: {len(seeds)} members fused in {seconds:.1f} s · norm "
        f"{float(norm(fused)) / member_norm:.2f} of a member's · {out}"
    )
    return out


def _is_there(out: Path, asked: dict) -> bool:
    """Whether ``out`` holds this very fusion; UserError if it holds another."""
    file = out / "provenance.json"
    if not file.exists():
        return False
    there = json.loads(file.read_text())
    for key, value in asked.items():
        if there.get(key) != value:
            raise UserError(
                f"{out} holds another fusion ({key}: {there.get(key)}, now {value}); name another "
                "folder with --out"
            )
    return True


def folder_hash(folder: Path) -> str:
    """sha256 of an adapter's weights file."""
    weights = next(folder.glob("*.safetensors"))
    return sha256(weights.read_bytes()).hexdigest()
