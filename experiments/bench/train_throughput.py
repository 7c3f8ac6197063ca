"""Training throughput: three seeds in one step, against PEFT training them one after the other.

    .venv/bin/python experiments/bench/train_throughput.py [--rounds 3] [--steps 3]

Both train the same adapters (LoRA r = 8 on all linear layers) of SmolLM2-135M in float32 on two
threads, on the same batches of real ASDiv text, with a loss on the answer alone, and take the same
AdamW steps. PEFT pads each batch to its longest example, as its users do. The two run in turns,
each turn in a fresh process whose peak resident memory is read at its end; the first step of a turn
warms up and is not counted. The losses of the first step must agree, or the work would differ.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

SEEDS = (11, 42, 202)
RANK, ALPHA, LEARNING_RATE = 8, 16, 1e-3
BATCH = 8
THREADS = "2"


def load_work(num_steps: int):
    """The model's folder and, per step and seed, the encoded examples."""
    from transformers import AutoTokenizer

    from lorafuse_jax.assets import fetch
    from lorafuse_jax.data.encode import encode_split
    from lorafuse_jax.data.examples import load_task
    from lorafuse_jax.data.loader import Loader

    folder = fetch("smollm2-135m-instruct", say=lambda line: None)
    task = load_task(fetch("asdiv", say=lambda line: None))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    examples = encode_split(task.splits["train"], tokenizer, "qa", max_length=8192).examples
    loader = Loader(examples, order_seeds=SEEDS, examples_per_step=BATCH, num_steps=num_steps)
    chosen = [[[examples[n] for n in loader.chosen(s, k)] for s in SEEDS] for k in range(num_steps)]
    return folder, loader, chosen


def run_ours(num_steps: int) -> dict:
    """All seeds at once."""
    import jax

    from lorafuse_jax.models.hub import load_model
    from lorafuse_jax.workflow.inputs import EncodedTask
    from lorafuse_jax.workflow.train_config import TrainConfig
    from lorafuse_jax.workflow.trainer import make_trainer

    folder, loader, chosen = load_work(num_steps)
    model = load_model(folder)
    config = TrainConfig(
        model=str(folder),
        data="asdiv",
        seeds=SEEDS,
        rank=RANK,
        alpha=float(ALPHA),
        learning_rate=LEARNING_RATE,
        examples=num_steps * BATCH,
        examples_per_step=BATCH,
    )
    flat = [example for step in chosen for seed in step for example in seed]
    trainer = make_trainer(config, model, EncodedTask(folder, "", "qa", flat, flat[:1], 0))
    state = trainer.fresh_state()
    keys = jax.vmap(jax.random.key)(jax.numpy.asarray(SEEDS))
    times, first = [], None
    for step in range(num_steps):
        batch = loader.batch(step)
        began = time.perf_counter()
        state, loss = jax.block_until_ready(trainer.step_fn(state, model.params, batch, keys))
        times.append(time.perf_counter() - began)
        first = loss.tolist() if first is None else first
    padded = loader.shape.rows * loader.shape.length * len(SEEDS)
    return {"times": times, "first_loss": first, "padded_tokens": padded}


def run_peft(num_steps: int) -> dict:
    """The same seeds, one after the other."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(int(THREADS))
    folder, _, chosen = load_work(num_steps)
    times, first, padded = [0.0] * num_steps, [], 0
    for k, seed in enumerate(SEEDS):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        lora = LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        model = get_peft_model(base, lora)
        model.train()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
        for step in range(num_steps):
            batch = _torch_batch(chosen[step][k], torch)
            padded += batch["input_ids"].numel() if step else 0
            began = time.perf_counter()
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            times[step] += time.perf_counter() - began
            if step == 0:
                first.append(float(loss))
    return {"times": times, "first_loss": first, "padded_tokens": padded // (num_steps - 1)}


def _torch_batch(examples, torch):
    longest = max(example.length for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for row, example in enumerate(examples):
        prompt = len(example.prompt)
        ids[row, :prompt] = torch.from_numpy(example.prompt).long()
        ids[row, prompt : example.length] = torch.from_numpy(example.completion).long()
        labels[row, prompt : example.length] = ids[row, prompt : example.length]
        mask[row, : example.length] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def run_gemm(_: int) -> dict:
    """The best rate of a large float32 product, in XLA and in torch."""
    import jax
    import torch

    torch.set_num_threads(int(THREADS))
    size, best = 2048, {"xla": 0.0, "torch": 0.0}
    a = jax.random.normal(jax.random.key(0), (size, size))
    multiply = jax.jit(lambda x: x @ x)
    b = torch.randn(size, size)
    jax.block_until_ready(multiply(a))
    for _ in range(12):
        for name, product in (
            ("xla", lambda: jax.block_until_ready(multiply(a))),
            ("torch", lambda: b @ b),
        ):
            began = time.perf_counter()
            product()
            best[name] = max(best[name], 2 * size**3 / (time.perf_counter() - began) / 1e9)
    return best


def run_compile(_: int) -> dict:
    """Seconds to trace and compile the step at 4 and at 30 layers, from shapes alone."""
    from dataclasses import replace
    from functools import partial

    import jax

    from lorafuse_jax.adapted import batch_log_probs
    from lorafuse_jax.lora import LoraRule, init_adapter
    from lorafuse_jax.models.decoder import init_params
    from lorafuse_jax.models.hub import load_model
    from lorafuse_jax.training.objective import answer_loss
    from lorafuse_jax.training.step import adamw, init_state, make_train_step, seed_keys

    folder, loader, _chosen = load_work(2)
    full = load_model(folder).config
    rules = (LoraRule(rank=RANK, alpha=float(ALPHA)),)
    seconds = {}
    for layers in (4, 30):
        config = replace(full, num_layers=layers)
        params = jax.eval_shape(partial(init_params, config), jax.random.key(0))
        tx = adamw(num_steps=9, warmup_steps=1)

        def log_probs(adapter, params, batch, key, config=config):
            return batch_log_probs(config, params, adapter, batch, rules=rules)

        keys = seed_keys(SEEDS, 1)
        init = partial(init_adapter, params=params, rules=rules)
        state = jax.eval_shape(lambda k, init=init, tx=tx: init_state(k, init, tx), keys)
        step = make_train_step(answer_loss(log_probs), tx)
        began = time.perf_counter()
        step.lower(state, params, loader.batch(0), keys).compile()
        seconds[str(layers)] = time.perf_counter() - began
    return seconds


WORKERS = {"ours": run_ours, "peft": run_peft, "gemm": run_gemm, "compile": run_compile}


def in_process(worker: str, num_steps: int) -> dict:
    """Run one worker in a fresh process on two threads."""
    environment = {**os.environ, "OMP_NUM_THREADS": THREADS, "MKL_NUM_THREADS": THREADS}
    command = [sys.executable, __file__, "--worker", worker, "--steps", str(num_steps)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{worker} failed:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def needed_flops(chosen) -> float:
    """Least work of one step of all seeds: 2P forward and 2P for activations' gradients a token.

    P is the linear layers for every real token, and the head for tokens with a loss; no gradient of
    the frozen weights, no padding, no attention.
    """
    layer_parameters, head_parameters = (
        30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536),
        49152 * 576,
    )
    tokens = sum(example.length for seed in chosen for example in seed)
    losses = sum(len(example.completion) for seed in chosen for example in seed)
    return 4.0 * (layer_parameters * tokens + head_parameters * losses)


def main() -> None:
    """Measure, print, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="timed steps a turn")
    parser.add_argument("--worker", choices=WORKERS)
    options = parser.parse_args()
    if options.worker:
        result = WORKERS[options.worker](options.steps)
        result["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(result))
        return
    num_steps = options.steps + 1
    _, _, chosen = load_work(num_steps)
    tokens = [sum(e.length for seed in step for e in seed) for step in chosen[1:]]
    flops = sum(needed_flops(step) for step in chosen[1:])
    rates: dict[str, list[float]] = {"ours": [], "peft": []}
    peaks: dict[str, list[float]] = {"ours": [], "peft": []}
    last: dict[str, dict] = {}
    gemm = in_process("gemm", 1)
    compile_seconds = in_process("compile", 1)
    print(f"GEMM peak, GFLOP/s f32: XLA {gemm['xla']:.0f}, torch {gemm['torch']:.0f}")
    print(f"compile, s: 4 layers {compile_seconds['4']:.1f}, 30 layers {compile_seconds['30']:.1f}")
    for turn in range(options.rounds):
        for name in ("ours", "peft") if turn % 2 == 0 else ("peft", "ours"):
            last[name] = in_process(name, num_steps)
            rates[name].append(sum(tokens) / sum(last[name]["times"][1:]))
            peaks[name].append(last[name]["peak_gib"])
            print(
                f"turn {turn + 1} {name}: {rates[name][-1]:.0f} tokens/s, {peaks[name][-1]:.1f} GiB"
            )
    gaps = [
        abs(a - b)
        for a, b in zip(last["ours"]["first_loss"], last["peft"]["first_loss"], strict=True)
    ]
    print(f"first-step losses differ by at most {max(gaps):.1e}")
    ours, peft = (statistics.median(rates[name]) for name in ("ours", "peft"))
    achieved = flops / sum(tokens) * ours / 1e9
    peak = max(gemm["xla"], gemm["torch"])
    for name in ("ours", "peft"):
        share = statistics.mean(tokens) / last[name]["padded_tokens"]
        print(f"{name}: {100 * share:.0f} % of the computed tokens are real")
    print(f"median tokens/s over {len(SEEDS)} seeds: ours {ours:.0f}, PEFT {peft:.0f}")
    print(f"needed work at our rate: {achieved:.0f} GFLOP/s, {achieved / peak:.0%} of the peak")
    memory = statistics.median(peaks["ours"]) / statistics.median(peaks["peft"])
    print(
        json.dumps(
            {
                "bench": "train_throughput",
                "ratio": round(ours / peft, 3),
                "share_of_gemm_peak": round(achieved / peak, 3),
                "peak_memory_ratio": round(memory, 3),
                "first_loss_gap": max(gaps),
                "compile_s": {k: round(compile_seconds[k], 1) for k in ("4", "30")},
                "tokens_per_s": {"ours": round(ours, 1), "peft": round(peft, 1)},
            }
        )
    )


if __name__ == "__main__":
    if Path.cwd() not in map(Path, sys.path):
        sys.path.insert(0, str(Path.cwd()))
    main()
