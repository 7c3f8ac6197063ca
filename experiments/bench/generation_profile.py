"""Where one decoding step's time goes, and what reading the cache in slices is worth.

    .venv/bin/python experiments/bench/generation_profile.py

Eight adapters of rank 8 on SmolLM2-135M in float32, two and sixteen rows each, 192 slots of which
96 are filled. Shares come from jax's profiler: an operation's time is from its start to its end on
the thread that began it, so they are of operations, not of the wall clock. Then the same steps on
the clock, with the cache read a few rows at a time and a whole layer at a time, in turns.
"""

import json
import re
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp

from lorafuse_jax.assets import fetch
from lorafuse_jax.bank import make_bank
from lorafuse_jax.generation import lanes as programs
from lorafuse_jax.generation.sampling import Choice
from lorafuse_jax.lora import LoraRule, init_adapter
from lorafuse_jax.models import attention
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.text_generation import make_engine

ADAPTERS, RANK, SLOTS = 8, 8, 192
ROWS = (2, 16)
ROUNDS = 5
WHOLE_LAYER = 1 << 40
GREEDY = Choice(sampled=False, nucleus=False, ensemble=0)
PARTS = (
    ("projections, base and adapters", r"_proj/"),
    ("head", r"d,vd|reduce$|argmax"),
    ("copying a layer's weights out of the stack", r"while/body/jit\(dynamic_index_in_dim\)"),
    ("copying slices of the cache", r"dynamic_slice"),
    ("attention", r"dot_general|exp|reduce_|max|sub|mul|div|select"),
)


def make_work(model, rows: int):
    """A bank of random adapters, and lanes in the middle of their answers."""
    fresh = init_adapter(jax.random.key(0), model.params, [LoraRule(rank=RANK)])
    like = jax.ShapeDtypeStruct(
        (model.config.num_layers, 1, model.config.num_kv_heads, 1, model.config.head_dim),
        jnp.float32,
    )
    count = ADAPTERS * rows
    lanes = programs.idle(like, count, SLOTS)
    filled = jnp.tile(jnp.arange(SLOTS) - SLOTS // 2, (count, 1))
    lanes = lanes._replace(
        left=jnp.full(count, 10**6),
        position=jnp.full(count, SLOTS // 2),
        ring=lanes.ring._replace(positions=filled),
    )
    return make_bank([fresh] * ADAPTERS), lanes


def part_of(name: str) -> str:
    """The part of the model that an operation belongs to."""
    return next((part for part, pattern in PARTS if re.search(pattern, name)), "the rest")


def shares(engine, model, rows: int) -> dict[str, float]:
    """Of the operations of one step."""
    bank, lanes = make_work(model, rows)
    compiled = programs.go_on.lower(engine, GREEDY, model.params, bank, lanes).compile()
    pattern = r'^\s*(?:ROOT )?%([\w.\-]+) = .*?op_name="([^"]+)"'
    names = dict(re.findall(pattern, compiled.as_text() or "", re.MULTILINE))
    lanes, _ = jax.block_until_ready(compiled(model.params, bank, lanes))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(compiled(model.params, bank, lanes))
        trace = next(Path(folder).rglob("*.xplane.pb"))
        profile = jax.profiler.ProfileData.from_file(str(trace))
    seconds: Counter[str] = Counter()
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                if event.name in names and not event.name.startswith(("while", "call")):
                    seconds[part_of(names[event.name])] += event.duration_ns / 1e9
    total = seconds.total()
    return {part: round(value / total, 3) for part, value in seconds.most_common()}


def step_seconds(engine, model, rows: int) -> dict[str, float]:
    """Medians of a step, both ways of reading the cache in turns."""
    programs_by_way, lanes_by_way = {}, {}
    normal = attention.CPU_SLICE_BYTES
    for way, size in (("slices", normal), ("whole layers", WHOLE_LAYER)):
        attention.CPU_SLICE_BYTES = size
        jax.clear_caches()
        bank, lanes = make_work(model, rows)
        lowered = programs.go_on.lower(engine, GREEDY, model.params, bank, lanes)
        programs_by_way[way] = lowered.compile()
        lanes_by_way[way], _ = programs_by_way[way](model.params, bank, lanes)
    attention.CPU_SLICE_BYTES = normal
    times: dict[str, list[float]] = {way: [] for way in programs_by_way}
    for _ in range(ROUNDS):
        for way, program in programs_by_way.items():
            jax.block_until_ready(lanes_by_way[way])
            began = time.perf_counter()
            lanes_by_way[way], _ = jax.block_until_ready(
                program(model.params, bank, lanes_by_way[way])
            )
            times[way].append((time.perf_counter() - began) / programs.STEPS)
    return {way: statistics.median(found) for way, found in times.items()}


def main() -> None:
    """Print shares and times, end with one JSON line."""
    model = load_model(fetch("smollm2-135m-instruct", say=lambda line: None))
    engine = make_engine(model)
    result: dict = {"bench": "generation_profile"}
    for rows in ROWS:
        print(f"{ADAPTERS} adapters x {rows} rows")
        found = shares(engine, model, rows)
        for part, share in found.items():
            print(f"  {part:44} {share:5.0%}")
        seconds = step_seconds(engine, model, rows)
        for way, value in seconds.items():
            print(f"  a step, cache read in {way:13} {1e3 * value:7.1f} ms")
        result[f"rows_{ADAPTERS * rows}"] = {"shares": found, "step_seconds": seconds}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
