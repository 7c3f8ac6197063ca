"""What this machine can do, and what decoding costs before it starts; for ``generation.py``."""

import json
import time
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from lorafuse_jax.adapted import extend_rows, row_logits, row_scores
from lorafuse_jax.assets import fetch
from lorafuse_jax.bank import make_bank
from lorafuse_jax.generation import lanes as programs
from lorafuse_jax.generation.request import Engine
from lorafuse_jax.generation.ring import Prefix
from lorafuse_jax.generation.sampling import Choice
from lorafuse_jax.lora import LoraRule, init_adapter
from lorafuse_jax.models.decoder import init_params
from lorafuse_jax.models.families.llama import config_from_hf

DEPTHS = (4, 32)
ADAPTERS, RANK = 8, 8
LAYER_WEIGHTS, HEAD_WEIGHTS = 106.2e6, 28.3e6
"""Of SmolLM2-135M."""

TOKEN_BYTES = 2 * 30 * 3 * 64 * 4
"""Of its keys and values."""


def measure_machine() -> dict:
    """What this machine can do, and how compile time grows with depth."""
    square = jnp.ones((2048, 2048))
    product = jax.jit(lambda a, b: a @ b)
    speed = 2 * 2048**3 / fastest(lambda: jax.block_until_ready(product(square, square)))
    weights = jnp.ones((30, 2048, 2048))
    one_row = jnp.ones((1, 2048))
    sweep = jax.jit(lambda x, w: jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0])
    seconds = fastest(lambda: jax.block_until_ready(sweep(one_row, weights)))
    compiles = {depth: compile_seconds(depth) for depth in (*DEPTHS, *DEPTHS)}
    return {"flops": speed, "bytes": weights.nbytes / seconds, "compiles": compiles}


def fastest(run, times: int = 7) -> float:
    """Of several runs after the first."""
    run()
    measured = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        measured.append(time.perf_counter() - began)
    return min(measured)


def compile_seconds(depth: int) -> float:
    """Of both programs of decoding, for SmolLM2's widths and eight adapters."""
    folder = fetch("smollm2-135m-instruct", say=lambda line: None)
    config = config_from_hf(json.loads((folder / "config.json").read_text()))
    config = replace(config, num_layers=depth)
    engine = Engine(
        partial(extend_rows, config),
        partial(row_logits, config),
        partial(row_scores, config),
        (0,),
        config.context_length,
    )

    def shapes():
        params = init_params(config, jax.random.key(0))
        adapter = init_adapter(jax.random.key(0), params, [LoraRule(rank=RANK)])
        like = jax.ShapeDtypeStruct(
            (depth, 1, config.num_kv_heads, 1, config.head_dim), jnp.float32
        )
        lanes = programs.idle(like, 16, 192)
        packed = jnp.zeros((ADAPTERS, 256), jnp.int32)
        scored = jnp.zeros(64, jnp.int32)
        reading = programs.Reading(packed, packed, packed, scored, scored)
        keys = jnp.zeros((depth, ADAPTERS, config.num_kv_heads, 32, config.head_dim))
        prefix = Prefix(keys, keys, jnp.zeros((), jnp.int32))
        return params, make_bank([adapter] * ADAPTERS), lanes, reading, prefix

    params, bank, lanes, reading, prefix = jax.eval_shape(shapes)
    began = time.perf_counter()
    programs.read.lower(engine, False, params, bank, prefix, reading).compile()
    programs.go_on.lower(engine, Choice(False, False, 0), params, bank, lanes).compile()
    return time.perf_counter() - began


def roofline(machine: dict, *, read: int, generated: int, rows: int, slots: int) -> float:
    """Seconds that nothing on this machine can go below, reading prompts and taking steps.

    Args:
        machine: from ``measure_machine``.
        read: tokens of prompts, over all adapters.
        generated: tokens of answers.
        rows: of one step.
        slots: of the cache that a step reads, on average.
    """
    reading = 2 * LAYER_WEIGHTS * read / machine["flops"]
    weights = LAYER_WEIGHTS + HEAD_WEIGHTS
    step = max(
        2 * weights * rows / machine["flops"],
        (4 * weights + rows * slots * TOKEN_BYTES) / machine["bytes"],
    )
    return reading + generated / rows * step
