"""Training throughput: several seeds in one step, against PEFT training them one after the other.

    .venv/bin/python experiments/bench/train_throughput.py [--rounds 2] [--curve-steps 10]

Both train the same kind of adapters (LoRA r = 8 on all linear layers) of SmolLM2-135M on two
threads, on real text with a loss on the answer alone (``train_work.py`` has the work itself). PEFT
pads each batch to its longest example, as its users do, and gets plainly shuffled batches; ours
are stratified by length and packed. The two run in turns, each turn in a fresh process whose peak
resident memory is read at its end; the first step of a turn warms up and is not counted. On that
step both have the same batch, and the losses must agree, or the work would differ. Both processes
run with large pages for malloc (``GLIBC_TUNABLES``).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from train_work import MEANS

WORKER = Path(__file__).with_name("train_work.py")
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
TWO_THREADS = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
SETTINGS: dict[str, dict[str, Any]] = {
    "ASDiv, 3 seeds, 16 a step": {"data": "asdiv", "seeds": 3, "batch": 16},
    "ASDiv, 8 seeds, 8 a step": {"data": "asdiv", "seeds": 8, "batch": 8},
    "GSM-symbolic, 3 seeds, 8 a step": {"data": "gsm-symbolic", "seeds": 3, "batch": 8},
    "ASDiv, 3 seeds, 8 a step, bfloat16": {"seeds": 3, "batch": 8, "dtype": "bfloat16"},
}
HEADLINE = next(iter(SETTINGS))
console = Console(width=118, highlight=False)


def work(worker: str, large_pages: bool = True, **options: Any) -> dict:
    """Run one worker in a fresh process on two threads."""
    words = []
    for name, value in options.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    pages = LARGE_PAGES if large_pages else {}
    environment = {**os.environ, **TWO_THREADS, **pages}
    command = [sys.executable, str(WORKER), worker, *words]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{worker} {options} failed:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def rate(result: dict, what: str = "tokens") -> float:
    """Real tokens (or answers, flops) a second over all seeds, the first step left out."""
    return sum(result[what][1:]) / sum(result["times"][1:])


def padding(result: dict) -> float:
    """Share of the computed tokens that is real."""
    return sum(result["tokens"][1:]) / sum(result["padded"][1:])


def compare(rounds: int) -> dict:
    """Every setting, in turns; the headline so many times, the others once."""
    found = {}
    for name, options in SETTINGS.items():
        runs: dict[str, list[dict]] = {"ours": [], "peft": []}
        for turn in range(rounds if name == HEADLINE else 1):
            for worker in ("ours", "peft") if turn % 2 == 0 else ("peft", "ours"):
                runs[worker].append(work(worker, steps=4, **options))
                last = runs[worker][-1]
                console.print(f"{name} · {worker}: {rate(last):.0f} tokens/s")
        middle = {
            worker: {what: statistics.median(rate(r, what) for r in some) for what in
                     ("tokens", "answers")}
            | {"gib": statistics.median(r["peak_gib"] for r in some), "real": padding(some[-1])}
            for worker, some in runs.items()
        }  # fmt: skip
        gaps = zip(runs["ours"][0]["first_loss"], runs["peft"][0]["first_loss"], strict=True)
        found[name] = middle | {
            "ratio": middle["ours"]["answers"] / middle["peft"]["answers"],
            "ratio_tokens": middle["ours"]["tokens"] / middle["peft"]["tokens"],
            "gap": max(abs(a - b) for a, b in gaps),
            "flops": statistics.median(rate(r, "flops") for r in runs["ours"]) / 1e9,
        }
    return found


def show_comparison(found: dict, peak: float) -> None:
    """The table of ``compare``."""
    table = Table("", "ours", "PEFT", "ratio", "answer tok./s", "ratio", "real", "GiB", "of peak")
    for name, row in found.items():
        ours, peft = row["ours"], row["peft"]
        table.add_row(
            name,
            f"{ours['tokens']:.0f}",
            f"{peft['tokens']:.0f}",
            f"{row['ratio_tokens']:.2f}",
            f"{ours['answers']:.1f}, {peft['answers']:.1f}",
            f"{row['ratio']:.2f}",
            f"{ours['real']:.0%}, {peft['real']:.0%}",
            f"{ours['gib']:.1f}, {peft['gib']:.1f}",
            f"{row['flops'] / peak:.0%}",
        )
    console.print(table)


def curve(steps: int) -> dict:
    """Held-out loss of every seed after the same number of examples."""
    both = {
        worker: work(worker, steps=steps, heldout=True, **SETTINGS[HEADLINE])["heldout"]
        for worker in ("ours", "peft")
    }
    for worker, losses in both.items():
        listed = " ".join(f"{loss:.3f}" for loss in losses)
        console.print(f"held-out loss after {steps} steps of 16, {worker}: {listed}")
    return both


def memory() -> dict:
    """Peak and temporary memory by seeds at equal tokens a step, and by policy."""
    table = Table("seeds x examples, policy", "temporary, GB", "peak, GiB", "tokens/s")
    found = {}
    cases = [(n, 16 // n, "projections") for n in (1, 2, 4, 8)]
    cases += [(4, 4, policy) for policy in ("nothing", "layers")]
    for seeds, batch, remat in cases:
        result = work("ours", seeds=seeds, batch=batch, remat=remat, steps=3)
        found[f"{seeds} {remat}"] = round(result["peak_gib"], 2)
        table.add_row(
            f"{seeds} x {batch}, {remat}",
            f"{result['temporary_gb']:.2f}",
            f"{result['peak_gib']:.2f}",
            f"{rate(result):.0f}",
        )
    console.print(table)
    return found


def each_means_off() -> dict:
    """What every means brings: tokens a second with all on, over those without it."""
    options = {"seeds": 3, "batch": 8, "steps": 4}
    with_all = rate(work("ours", **options))
    table = Table("switched off", "tokens/s", "what it brings")
    table.add_row("nothing", f"{with_all:.0f}", "")
    found = {}
    for means in (*MEANS, "large pages"):
        some = work("ours", large_pages=False, **options) if means == "large pages" else None
        result = some or work("ours", off=means, **options)
        found[means] = round(with_all / rate(result), 3)
        memory_note = f", {result['temporary_gb']:.2f} GB" if means == "rematerialisation" else ""
        table.add_row(means + memory_note, f"{rate(result):.0f}", f"x {found[means]:.2f}")
    console.print(table)
    console.print("(the next batch takes {:.1f} ms to make)".format(1e3 * result["batch_s"]))
    return found


def main() -> None:
    """Measure, print, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--curve-steps", type=int, default=10)
    options = parser.parse_args()
    gemm = work("gemm")
    gemm.pop("peak_gib")
    console.print("GEMM, GFLOP/s: " + ", ".join(f"{k} {v:.0f}" for k, v in gemm.items()))
    peak = max(gemm.values())
    found = compare(options.rounds)
    show_comparison(found, peak)
    losses = curve(options.curve_steps)
    by_memory = memory()
    means = each_means_off()
    headline = found[HEADLINE]
    print(
        json.dumps(
            {
                "bench": "train_throughput",
                "ratio": round(headline["ratio"], 3),
                "ratios": {name: round(row["ratio"], 3) for name, row in found.items()},
                "share_of_gemm_peak": round(headline["flops"] / peak, 3),
                "gemm": {name: round(value) for name, value in gemm.items()},
                "first_loss_gap": max(
                    row["gap"] for name, row in found.items() if "bfloat16" not in name
                ),
                "heldout": losses,
                "peak_gib": by_memory,
                "means": means,
            }
        )
    )


if __name__ == "__main__":
    main()
