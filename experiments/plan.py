"""What fits where: `lorafuse plan` for several models, machines and numbers of seeds, as a table.

`.venv/bin/python experiments/plan.py` compiles each with libtpu, a minute or two each; what is in
runs/plan/ already is not compiled again. Writes experiments/results/plan.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "runs" / "plan"
RESULT = ROOT / "experiments" / "results" / "plan.md"
GB = 1e9

CASES = [
    (model, machine, seeds)
    for model in ("llama2-7b", "mistral-7b")
    for machine in ("v5e-8", "v5p-8", "v6e-8")
    for seeds in (3, 8)
] + [("llama2-70b", "v5p-64", 3), ("llama2-70b", "v5p-64", 8)]

ESTIMATES = [("llama2-7b", "h100-8", 8), ("llama2-7b", "a100-80-8", 8)]


def file_of(model: str, machine: str, seeds: int) -> Path:
    """All numbers of a plan."""
    return FOLDER / f"{model}-{machine}-{seeds}.json"


def plan(model: str, machine: str, seeds: int) -> dict:
    """Of the child process, or as it was."""
    file = file_of(model, machine, seeds)
    if not file.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        words = ["--model", model, "--machine", machine, "--seeds", str(seeds)]
        words += ["--rank", "16", "--batch", "8", "--length", "1024", "--json", str(file)]
        program = "from lorafuse_jax.cli import main; main()"
        subprocess.run(
            [sys.executable, "-c", program, "plan", *words],
            check=True,
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        data = json.loads(file.read_text())
        data["plan_seconds"] = time.perf_counter() - began
        file.write_text(json.dumps(data, indent=1) + "\n")
    return json.loads(file.read_text())


def row(data: dict) -> str:
    """One line of the table."""
    held, memory = data["bytes_of_a_device"], data["memory_of_a_device"]
    mesh = ", ".join(f"{axis}={ways}" for axis, ways in data["mesh"].items() if axis != "fsdp")
    mesh += ", fsdp" * data["mesh"]["fsdp"]
    parts = [data["remat"]]
    if data["seeds_per_pass"] < data["seeds"]:
        parts.append(f"{data['seeds_per_pass']} seeds a pass")
    if data["micro_batches"] > 1:
        parts.append(f"{data['micro_batches']} micro-batches")
    size = lambda name: f"{held[name] / GB:.1f}"  # noqa: E731
    minimum = data["needed_flops_causal"] + data["recomputed_flops"]
    seconds = data["seconds"]
    cells = [
        data["model"],
        f"{data['machine']} ({data['devices']})",
        str(data["seeds"]),
        mesh,
        ", ".join(parts),
        *map(size, ("weights", "adapters", "optimiser", "activations, gradients")),
        f"**{size('peak')}**",
        f"{memory / GB:.0f}",
        f"{100 * held['free'] / memory:.0f} %",
        f"{data['flops'] / 1e12:.0f}",
        f"{data['over_minimum']:.3f}" if data["compiled"] else "",
        f"{data['flops'] / minimum:.3f}" if data["compiled"] else "",
        f"{data['sent_bytes_of_a_device'] / GB:.1f}",
        f"{seconds['at_least']:.2f}",
        f"{seconds['apart']:.2f}",
        str(data["most_seeds"]),
    ]
    return "| " + " | ".join(cells) + " |"


HEADINGS = (
    "model",
    "machine (chips)",
    "N",
    "mesh",
    "remat",
    "weights",
    "adapters",
    "optimiser",
    "activations",
    "peak",
    "of",
    "free",
    "TFLOP a step",
    "of the minimum",
    "of the causal one",
    "sent, GB",
    "at least, s",
    "apart, s",
    "largest N",
)


def table(cases: list[tuple[str, str, int]], made: bool) -> str:
    """Of all, or of those that are there."""
    if made:
        cases = [case for case in cases if file_of(*case).exists()]
    lines = [
        "| " + " | ".join(HEADINGS) + " |",
        "| --- | --- | ---: | --- | --- |" + " ---: |" * 14,
    ]
    return "\n".join([*lines, *(row(plan(*case)) for case in cases)])


def main() -> None:
    """Plan, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--made", action="store_true", help="only what is in runs/plan already")
    made = parser.parse_args().made
    compiled, estimated = table(CASES, made), table(ESTIMATES, made)
    RESULT.write_text(TEXT.format(jax=jax.__version__, compiled=compiled, estimated=estimated))


TEXT = """# What fits where

`.venv/bin/python experiments/plan.py` (jax {jax}, libtpu; no TPU): the training step of `lorafuse
train`, built from shapes alone and compiled ahead of time for each machine. LoRA of rank 16 on
all linear layers, N seeds, 8 examples of 1024 tokens a seed in a step, each token with a loss,
base in bfloat16, adapters and optimiser in float32. GB (10^9) of one chip.

{compiled}

Mesh, policy, seeds a pass and micro-batches are what the planner chose: the least estimated time
that leaves 5 % free. *TFLOP a step*: matrix products in the compiled program, loops multiplied
out, all chips together. *Of the minimum*: over what the step needs, forward 2P and gradient of
activations 2P a token, updates, head, attention over whole rows as the program multiplies it, and
what the policy recomputes, once. *Of the causal one*: the same with only those pairs of tokens
that see each other. *Sent*: by one chip in a step. *At least*: the longest of products, memory
and links at the rates of the data sheets; *apart*: if chips speak while nothing else happens.
Real steps take longer than both. *Largest N*: reckoned from this plan's compiled peak and exact
sizes of adapters, divided anew; not compiled.

## Estimates

Of GPUs nothing is compiled; the same arithmetic that chooses what to compile gives

{estimated}
"""


if __name__ == "__main__":
    main()
