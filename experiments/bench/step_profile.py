"""Where one training step's time goes: operations of the compiled step, by part of the model.

    .venv/bin/python experiments/bench/step_profile.py

A step of the training benchmark (three seeds of SmolLM2-135M, 16 ASDiv examples each, float32), run
once under jax's profiler. An operation's time is from its start to its end on the thread that began
it, and two may overlap, so shares are of operations, not of the wall clock.
"""

import argparse
import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax
from train_work import ALPHA, RANK, SEEDS, load_text

from lorafuse_jax.models.hub import load_model
from lorafuse_jax.workflow.inputs import EncodedTask
from lorafuse_jax.workflow.train_config import TrainConfig
from lorafuse_jax.workflow.trainer import make_trainer

PARTS = (
    ("head and softmax", r"md,vd|mv,vd|d,vd->"),
    (
        "scan: writing and reading what is kept",
        r"dynamic_(update_)?(index|slice)|broadcast_in_dim$",
    ),
    ("updates (LoRA)", r"_proj/"),
    ("attention", r"self_attn"),
    ("norms", r"layernorm"),
    ("gate", r"silu|mlp/"),
)


def part_of(operation: str, shape: str, tokens: int) -> str:
    """The part of the model that an operation stands for, by its name and its result's shape."""
    if "_proj/dot_general" in operation and re.match(rf"f32\[{tokens},\d+\]", shape):
        return "projections of the base"
    return next((part for part, words in PARTS if re.search(words, operation)), "rest")


def main() -> None:
    """Profile one step, print shares, end with one JSON line."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    folder, train, validation = load_text("asdiv")
    model = load_model(folder)
    config = TrainConfig(
        model=str(folder),
        data="asdiv",
        seeds=SEEDS[:3],
        rank=RANK,
        alpha=ALPHA,
        examples=48,
        examples_per_step=16,
    )
    trainer = make_trainer(config, model, EncodedTask(folder, "", "qa", train, validation, 0))
    state, member, base = trainer.fresh_state(), trainer.member(), trainer.method.base
    batch, step_fn = trainer.loader.batch(1), trainer.step_fn
    compiled: Any = step_fn.lower(state, base, batch, member).compile()  # pyrefly: ignore
    state, _ = jax.block_until_ready(compiled(state, base, batch, member))
    text = compiled.as_text()
    shapes = dict(re.findall(r"^\s*(?:ROOT )?%([\w.\-]+) = (\S+)", text, re.MULTILINE))
    named = r'^\s*(?:ROOT )?%([\w.\-]+) = .*?op_name="([^"]+)"'
    names = dict(re.findall(named, text, re.MULTILINE))
    with tempfile.TemporaryDirectory() as temporary:
        began = time.perf_counter()
        with jax.profiler.trace(temporary):
            jax.block_until_ready(compiled(state, base, batch, member))
        wall = time.perf_counter() - began
        trace = next(Path(temporary).rglob("*.xplane.pb"))
        profile = jax.profiler.ProfileData.from_file(str(trace))
    seconds: Counter[str] = Counter()
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                if event.name in shapes and not event.name.startswith("while"):
                    name, shape = names.get(event.name, ""), shapes[event.name]
                    seconds[part_of(name, shape, batch.tokens.size)] += event.duration_ns / 1e9
    total = seconds.total()
    for part, value in seconds.most_common():
        print(f"{part:40} {value:6.2f} s  {value / total:5.0%}")
    shares = {part: round(value / total, 3) for part, value in seconds.items()}
    print(
        json.dumps(
            {"bench": "step_profile", "wall_s": round(wall, 2), "operations_s": round(total, 2)}
            | {"shares": shares}
        )
    )


if __name__ == "__main__":
    main()
