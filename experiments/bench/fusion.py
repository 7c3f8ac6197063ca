"""Fusing adapters of LLaMA2-7B shapes: ours against PEFT, on the same factors, in turns.

    .venv/bin/python experiments/bench/fusion.py            # about half an hour on 2 cores
    .venv/bin/python experiments/bench/fusion.py --quick    # small shapes: does it run?

Exact operators work in the core of S * R directions; PEFT's ``svd`` makes the dense delta and its
full SVD. Entry-wise ones go through the dense deltas in blocks of rows and come back to the rank by
a randomised SVD; PEFT's ``ties_svd`` trims the dense deltas and takes the full SVD. PEFT is timed
on one 4096 x 4096 module, as all 224 would take it hours.
"""

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from statistics import median
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from lorafuse_jax.adapter import compress, norm
from lorafuse_jax.fusion import compose, get_operator
from lorafuse_jax.types import DenseDelta, LoraPair

CORE = ("svd", "core_space:mean", "core_space:ties", "tsv", "iso", "compress_then_merge:mean")
ENTRYWISE = ("ties", "dare_ties", "seedlora")
LAYERS = 32
SHAPES = {f"self_attn/{name}": (4096, 4096) for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
SHAPES |= {"mlp/gate_proj": (4096, 11008), "mlp/up_proj": (4096, 11008)}
SHAPES |= {"mlp/down_proj": (11008, 4096)}
PEAK = """
import re, sys, jax
sys.path.insert(0, {here!r})
from fusion import fused_by, members
stacked = members({members}, {rank}, {shape})
fuse = fused_by({name!r}, {rank}).lower(stacked).compile()
def memory(kind):
    return 1024 * int(re.search(kind + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
open("/proc/self/clear_refs", "w").write("5")
before = memory("VmRSS")
jax.block_until_ready(fuse(stacked))
print((memory("VmHWM") - before) / (4 * {shape}[0] * {shape}[1]))
"""
"""Linux: the highest resident memory while it runs, above what members and program take."""


def members(count: int, rank: int, shape: tuple[int, int], layers: int = 1, seed: int = 0) -> dict:
    """Members with a common part, as seeds have, and singular values that fall off."""
    rng = np.random.default_rng(seed)
    fall = np.linspace(1, 0.1, rank)

    def draw(*dims: int) -> np.ndarray:
        own = rng.standard_normal((count, *dims), dtype=np.float32)
        return 0.5 * rng.standard_normal(dims, dtype=np.float32) + own

    lora_a = draw(layers, shape[0], rank) * fall.astype(np.float32) / 64
    return {"layers/m": LoraPair(jnp.asarray(lora_a), jnp.asarray(draw(layers, rank, shape[1])))}


def fused_by(name: str, rank: int):
    """The jitted operator, to the rank where its result is dense."""
    op = get_operator(name)
    if name in ENTRYWISE:
        op = compose(op, partial(compress, rank=rank))
    key = jax.random.key(0) if op.stochastic else None
    return jax.jit(lambda stacked: op(stacked, key=key))


def seconds(run) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


class Peft:
    """The same members as PEFT adapters of one linear layer."""

    def __init__(self, stacked: dict) -> None:
        import torch
        from peft import LoraConfig, get_peft_model

        pair = stacked["layers/m"]
        count, _, fan_in, rank = pair.lora_a.shape
        self.torch, self.names = torch, [str(k) for k in range(count)]
        holder: Any = torch.nn.Module()
        holder.m = torch.nn.Linear(fan_in, pair.lora_b.shape[-1], bias=False)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["m"])
        self.model: Any = get_peft_model(holder, config, adapter_name="0")
        for name in self.names[1:]:
            self.model.add_adapter(name, config)
        self.layer = cast(Any, holder.m)  # which get_peft_model has put its own layer into
        for k, name in enumerate(self.names):
            a, b = (np.array(leaf[k, 0].T) for leaf in pair)
            self.layer.lora_A[name].weight.data = torch.tensor(a)
            self.layer.lora_B[name].weight.data = torch.tensor(b)

    def fuse(self, kind: str, **settings) -> None:
        """``add_weighted_adapter``, anew every time."""
        if "fused" in self.model.peft_config:
            self.model.delete_adapter("fused")
        weights = [1 / len(self.names)] * len(self.names)
        self.model.base_model.add_weighted_adapter(
            self.names, weights, "fused", combination_type=kind, **settings
        )

    def delta(self) -> np.ndarray:
        """Of the fused adapter, [I, O]."""
        return self.layer.get_delta_weight("fused").detach().numpy().T


def against_peft(size: int, turns: int) -> dict:
    """Per module at N = 3, r = 8: medians of turns, and the error of what both compute."""
    stacked = members(3, 8, (size, size))
    ours = {name: fused_by(name, 8) for name in (*CORE, *ENTRYWISE)}
    compile_seconds = {name: seconds(lambda f=fuse: f(stacked)) for name, fuse in ours.items()}
    peft = Peft(stacked)
    kinds = {"PEFT svd": {}, "PEFT ties_svd": {"density": 0.2}}
    times: dict[str, list[float]] = {name: [] for name in (*ours, *kinds)}
    error = float("nan")
    for _ in range(turns):
        for kind, settings in kinds.items():
            kind_name = kind.removeprefix("PEFT ")
            times[kind].append(seconds(lambda k=kind_name, s=settings: peft.fuse(k, **s)))
            if kind_name == "svd":
                error = _error(ours["svd"](stacked), peft.delta())
            for name, fuse in ours.items():
                times[name].append(seconds(lambda f=fuse: f(stacked)))
    medians = {name: median(values) for name, values in times.items()}
    for name in ours:
        base = "PEFT ties_svd" if name in ENTRYWISE else "PEFT svd"
        print(
            f"{name:26} {1e3 * medians[name]:9.1f} ms · {medians[base] / medians[name]:7.0f} x "
            f"{base} ({medians[base]:.1f} s) · first call {compile_seconds[name]:.1f} s"
        )
    print(f"svd: relative difference to PEFT's result {error:.1e}")
    return {
        "core_ratio": min(medians["PEFT svd"] / medians[name] for name in CORE),
        "entrywise_ratio": min(medians["PEFT ties_svd"] / medians[name] for name in ENTRYWISE),
        "peft_svd_s": medians["PEFT svd"],
        "peft_ties_svd_s": medians["PEFT ties_svd"],
        "ours_ms": {name: 1e3 * medians[name] for name in ours},
        "svd_difference_to_peft": error,
    }


def exactness(size: int) -> dict:
    """Core operators against dense double precision."""
    stacked = members(3, 8, (size, size))
    a, b = (np.asarray(leaf[:, 0], np.float64) for leaf in stacked["layers/m"])
    taus = list(a @ b)
    mean = sum(taus) / 3
    u, s, vt = np.linalg.svd(mean)
    svds = [np.linalg.svd(tau) for tau in taus]
    us, vs = (
        np.hstack([x[:, :8] for x in xs])
        for xs in zip(*[(a, c.T) for a, _, c in svds], strict=True)
    )
    polar = lambda m: (lambda p, _, q: p @ q)(*np.linalg.svd(m, full_matrices=False))  # noqa: E731
    dense: dict[str, Any] = {
        "svd": u[:, :8] * s[:8] @ vt[:8],
        "core_space:mean": mean,
        "iso": s[:24].mean() * u[:, :24] @ vt[:24],
        "tsv": polar(us) * np.hstack([x[1][:8] / 3 for x in svds]) @ polar(vs).T,
    }
    errors = {name: _error(fused_by(name, 8)(stacked), wanted) for name, wanted in dense.items()}
    print(
        "relative difference to dense float64:",
        ", ".join(f"{n} {e:.1e}" for n, e in errors.items()),
    )
    return {"largest_error": max(errors.values())}


def low_rank_error(size: int) -> dict:
    """What the randomised SVD keeps of a dense result, against the exact one."""
    stacked = members(3, 8, (size, size))
    shares = {}
    for name in ("ties", "seedlora"):
        dense = get_operator(name)(stacked)["layers/m"]
        assert isinstance(dense, DenseDelta)
        best = np.linalg.svd(np.asarray(dense.delta[0]), compute_uv=False)
        kept = float(norm(compress({"m": dense}, 8)))
        shares[name] = [
            kept / float(np.linalg.norm(best)),
            float(np.linalg.norm(best[:8])) / float(np.linalg.norm(best)),
        ]
        ours, exact = shares[name]
        print(f"{name}: rank 8 keeps {ours:.4f} of the norm, the exact SVD {exact:.4f}")
    return {"kept_share_ours_and_exact": shares}


def whole_model(count: int, rank: int, shapes: dict, layers: int, measured: int) -> dict:
    """All linears, with compilation; ``measured`` of the layers are run, and the rest reckoned."""
    totals = {}
    for name in CORE:
        total = first = 0.0
        fuse = fused_by(name, rank)
        for shape, copies in _counted(shapes).items():
            stacked = members(count, rank, shape, measured)
            first += seconds(lambda f=fuse, s=stacked: f(s))
            total += copies * layers / measured * seconds(lambda f=fuse, s=stacked: f(s))
        totals[name] = total + first
        print(f"N = {count}, r = {rank}: {name:26} {totals[name]:6.1f} s for all linears")
    return totals


def peak_memory(shape: tuple[int, int]) -> dict:
    """Peak above the members, in dense deltas of the module, each in a fresh process."""
    here = str(__file__).rpartition("/")[0] or "."
    peaks = {}
    for name in ENTRYWISE:
        for count, rank in ((3, 8), (8, 64)):
            script = PEAK.format(here=here, name=name, members=count, rank=rank, shape=shape)
            done = subprocess.run(
                [sys.executable, "-c", script], capture_output=True, text=True, check=True
            )
            peaks[f"{name}, N = {count}"] = float(done.stdout)
            print(f"{name}: N = {count}, r = {rank}: peak {float(done.stdout):.1f} dense deltas")
    return {"peak_deltas": max(peaks.values())}


def _counted(shapes: dict) -> dict:
    return {shape: list(shapes.values()).count(shape) for shape in shapes.values()}


def _error(fused: dict, wanted: np.ndarray) -> float:
    update = fused["layers/m"]
    found = np.asarray(update.lora_a[0], np.float64) @ np.asarray(update.lora_b[0], np.float64)
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def main() -> None:
    """Everything, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes")
    parser.add_argument("--turns", type=int, default=3, help="turns with PEFT")
    args = parser.parse_args()
    size, layers = (256, 2) if args.quick else (4096, LAYERS)
    shapes = {"m": (256, 512)} if args.quick else SHAPES
    largest = max(shapes.values(), key=lambda shape: shape[0] * shape[1])
    results = {"bench": "fusion"} | against_peft(size, args.turns)
    results |= exactness(min(size, 1024)) | low_rank_error(size) | peak_memory(largest)
    results["all_linears_3_8_s"] = whole_model(3, 8, shapes, layers, layers)
    results["all_linears_8_64_s"] = whole_model(8, 64, shapes, layers, min(layers, 2))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
