"""Where one training step's time goes: operations of the compiled step, by part of the model.

    .venv/bin/python experiments/bench/step_profile.py

The step of three seeds on two rows of 192 tokens each (SmolLM2-135M, float32, random tokens, a loss
on half of them), run once under jax's profiler. An operation's time is from its start to its end on
the thread that began it, so shares are of operations, not of the wall clock.
"""

import json
import re
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import jax
import numpy as np

from lorafuse_jax.adapted import batch_log_probs
from lorafuse_jax.assets import fetch
from lorafuse_jax.data.batches import Batch
from lorafuse_jax.lora import LoraRule, init_adapter
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.training.objective import answer_loss
from lorafuse_jax.training.step import adamw, init_state, make_train_step, seed_keys

SEEDS, ROWS, LENGTH = (11, 42, 202), 2, 192
PARTS = (
    ("projections, base and LoRA", r"_proj/"),
    ("attention", r"self_attn"),
    ("norms and gate", r"layernorm|silu|mlp/"),
    ("head and softmax", r"md,vd|closed_call/(dot_general|exp|reduce|sub|log|scatter|gather)"),
    ("scan: reading and writing residuals", r"dynamic_(update_)?(index|slice)|broadcast_in_dim"),
)


def random_batch(vocab_size: int) -> Batch:
    """One unpacked example a row."""
    rng = np.random.default_rng(0)
    shape, losses = (len(SEEDS), ROWS, LENGTH), ROWS * LENGTH // 2
    index = np.stack([rng.permutation(ROWS * LENGTH)[:losses] for _ in SEEDS]).astype(np.int32)
    return Batch(
        tokens=rng.integers(0, vocab_size, shape).astype(np.int32),
        segments=np.ones(shape, np.int32),
        positions=np.broadcast_to(np.arange(LENGTH, dtype=np.int32), shape),
        loss_index=index,
        loss_target=rng.integers(0, vocab_size, index.shape).astype(np.int32),
        loss_weight=np.ones(index.shape, np.float32),
        loss_example=np.zeros(index.shape, np.int32),
    )


def part_of(operation: str) -> str:
    """The part of the model that an operation's name stands for."""
    return next((part for part, words in PARTS if re.search(words, operation)), "rest")


def main() -> None:
    """Profile one step, print shares, end with one JSON line."""
    model = load_model(fetch("smollm2-135m-instruct", say=lambda line: None))
    rules = (LoraRule(rank=8),)
    tx = adamw(num_steps=9, warmup_steps=1)

    def log_probs(adapter, params, batch, key):
        return batch_log_probs(model.config, params, adapter, batch, rules=rules)

    keys = seed_keys(SEEDS, 1)
    state = init_state(keys, partial(init_adapter, params=model.params, rules=rules), tx)
    batch = random_batch(model.config.vocab_size)
    step = make_train_step(answer_loss(log_probs), tx).lower(state, model.params, batch, keys)
    compiled = step.compile()
    state, _ = jax.block_until_ready(compiled(state, model.params, batch, keys))
    pattern = r'^\s*(?:ROOT )?%([\w.\-]+) = .*?op_name="([^"]+)"'
    names = dict(re.findall(pattern, compiled.as_text() or "", re.MULTILINE))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(compiled(state, model.params, batch, keys))
        trace = next(Path(folder).rglob("*.xplane.pb"))
        profile = jax.profiler.ProfileData.from_file(str(trace))
    seconds: Counter[str] = Counter()
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                if event.name in names and not event.name.startswith("while"):
                    seconds[part_of(names[event.name])] += event.duration_ns / 1e9
    total = seconds.total()
    for part, value in seconds.most_common():
        print(f"{part:38} {value:6.2f} s  {value / total:5.0%}")
    shares = {part: round(value / total, 3) for part, value in seconds.items()}
    print(json.dumps({"bench": "step_profile", "operations_s": round(total, 2), "shares": shares}))


if __name__ == "__main__":
    main()
