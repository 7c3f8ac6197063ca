"""Decoding throughput: eight adapters in one batch, against PEFT's ``generate``, one by one.

    .venv/bin/python experiments/bench/generation.py [--rounds 3] [--regime memory compute]

Both answer the same prompts greedily with the same eight adapters (LoRA r = 8 on all linear layers)
of SmolLM2-135M, in float32 on all cores, until the model ends its answer or the limit is reached;
the answers are compared. The peer keeps the eight adapters in one PeftModel, takes one after the
other, and pads batches on the left. It is also timed at its best: prompts sorted by length first,
and each adapter merged into the weights for its turn (on the clock), so that steps pay nothing for
it; merging rounds, so a few answers may differ. Its process imports nothing of ours.

- memory: two GSM8K prompts in one batch, up to 112 new tokens: all weights are read for few rows.
- compute: ASDiv and GSM8K prompts, sixteen a batch, up to 16 new tokens: mostly prompts are read.

The two run in turns, each turn in a fresh process that does the work once to compile and warm up,
and once more on the clock. Peak resident memory is read at its end. Beside each stands the roofline
of this machine: the time that the work's multiplications take at its matrix speed, or that its
weights and cache take at its memory speed, whichever is longer, step by step.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ADAPTERS, RANK = 8, 8
THREADS = str(len(os.sched_getaffinity(0)))
"""As many as XLA takes by itself."""

REGIMES = {
    "memory": {"tasks": {"gsm8k-100": 2}, "batch": 2, "new": 112},
    "compute": {"tasks": {"asdiv": 16, "gsm8k-100": 16}, "batch": 16, "new": 16},
}


def prepare_work(regime: str) -> dict:
    """The model's folder and the prompts, under its chat template, in an order of no meaning."""
    import numpy as np
    from transformers import AutoTokenizer

    from lorafuse_jax.assets import fetch
    from lorafuse_jax.data.encode import encode_split
    from lorafuse_jax.data.examples import load_task

    folder = fetch("smollm2-135m-instruct", say=lambda line: None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = []
    for name, count in REGIMES[regime]["tasks"].items():
        examples = load_task(fetch(name, say=lambda line: None)).splits["test"][:count]
        split = encode_split(examples, tokenizer, "chat", max_length=8192)
        prompts += [one.prompt.tolist() for one in split.examples]
    np.random.default_rng(0).shuffle(prompts)
    return {"model": str(folder), "prompts": prompts}


def load_work(regime: str, folder: Path) -> tuple[Path, list[list[int]]]:
    """What was prepared."""
    work = json.loads((folder / f"{regime}.json").read_text())
    return Path(work["model"]), work["prompts"]


def make_adapters(folder: Path) -> list[dict]:
    """Eight small random adapters: each answers in its own words, and ends its answers."""
    import jax

    from lorafuse_jax.lora import LoraRule, init_adapter
    from lorafuse_jax.models.hub import load_model
    from lorafuse_jax.types import LoraPair

    params = load_model(folder).params
    adapters = []
    for seed in range(ADAPTERS):
        fresh: Any = init_adapter(jax.random.key(seed), params, [LoraRule(rank=RANK)])
        keys = jax.random.split(jax.random.key(100 + seed), len(fresh))
        adapters.append(
            {
                module: LoraPair(pair[0], 0.002 * jax.random.normal(key, pair[1].shape))
                for (module, pair), key in zip(fresh.items(), keys, strict=True)
            }
        )
    return adapters


def run_ours(regime: str, adapter_folder: Path) -> dict:
    """All adapters at once."""
    import numpy as np

    from lorafuse_jax.bank import make_bank
    from lorafuse_jax.formats import load_adapter
    from lorafuse_jax.generation.request import Request
    from lorafuse_jax.generation.serve import serve
    from lorafuse_jax.models.hub import load_model
    from lorafuse_jax.text_generation import make_engine

    folder, prompts = load_work(regime, adapter_folder)
    model = load_model(folder)
    bank = make_bank([load_adapter(adapter_folder / str(n)) for n in range(ADAPTERS)])
    settings = REGIMES[regime]
    queue = [Request(np.array(prompt, np.int32), settings["new"]) for prompt in prompts]
    engine = make_engine(model)

    def once() -> tuple[float, list]:
        began = time.perf_counter()
        answers = list(
            serve(engine, model.params, bank, [queue] * ADAPTERS, lanes=settings["batch"])
        )
        return time.perf_counter() - began, answers

    first, _ = once()
    seconds, answers = once()
    found = {(one.member, one.request): one.tokens.tolist() for one in answers}
    ordered = [[found[m, n] for n in range(len(prompts))] for m in range(ADAPTERS)]
    return {"seconds": seconds, "compile_seconds": first - seconds, "answers": ordered}


def run_peft(regime: str, adapter_folder: Path, *, at_best: bool) -> dict:
    """One adapter after the other."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, prompts = load_work(regime, adapter_folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(base, adapter_folder / "0", adapter_name="0")
    for number in range(1, ADAPTERS):
        model.load_adapter(adapter_folder / str(number), adapter_name=str(number))
    model.eval()
    settings = REGIMES[regime]
    order = list(range(len(prompts)))
    if at_best:
        order.sort(key=lambda n: len(prompts[n]))

    def generate(chosen: list[int], new: int) -> list[list[int]]:
        batch = tokenizer.pad({"input_ids": [prompts[n] for n in chosen]}, return_tensors="pt")
        length = batch["input_ids"].shape[1]
        with torch.no_grad():
            out = model.generate(**batch, max_new_tokens=new, do_sample=False)
        rows = [row[length:].tolist() for row in out]
        stop = tokenizer.eos_token_id
        return [row[: row.index(stop)] if stop in row else row for row in rows]

    generate(order[: settings["batch"]], 2)
    began = time.perf_counter()
    answers: list[list] = [[None] * len(prompts) for _ in range(ADAPTERS)]
    for number in range(ADAPTERS):
        model.set_adapter(str(number))
        if at_best:
            model.merge_adapter([str(number)])
        for start in range(0, len(order), settings["batch"]):
            chosen = order[start : start + settings["batch"]]
            for n, answer in zip(chosen, generate(chosen, settings["new"]), strict=True):
                answers[number][n] = answer
        if at_best:
            model.unmerge_adapter()
    return {"seconds": time.perf_counter() - began, "answers": answers}


def run_machine() -> dict:
    """What this machine can do; jax is not imported into the peer's process."""
    from generation_limits import measure_machine

    return measure_machine()


RUNS = {
    "ours": run_ours,
    "peft": lambda regime, folder: run_peft(regime, folder, at_best=False),
    "peft at best": lambda regime, folder: run_peft(regime, folder, at_best=True),
    "machine": lambda regime, folder: run_machine(),
}


def in_own_process(kind: str, regime: str, folder: Path) -> dict:
    """One turn."""
    environment = os.environ | {
        "OMP_NUM_THREADS": THREADS,
        "MKL_NUM_THREADS": THREADS,
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, __file__, "--turn", kind, "--adapters", str(folder)]
    result = subprocess.run(
        [*command, "--regime", regime], env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        sys.exit(f"{kind} failed:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def save_adapters(folder: Path) -> None:
    """As PEFT folders."""
    from lorafuse_jax.assets import fetch
    from lorafuse_jax.formats.peft import save_peft

    model = fetch("smollm2-135m-instruct", say=lambda line: None)
    for number, adapter in enumerate(make_adapters(model)):
        save_peft(folder / str(number), adapter, base_model=str(model), provenance={})


def same_share(one: list, other: list) -> float:
    """Of all answers, how many are equal token for token."""
    pairs = [(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs)


def compare(regime: str, rounds: int, folder: Path, machine: dict) -> dict:
    """All turns of one regime, printed."""
    from generation_limits import roofline

    settings = REGIMES[regime]
    kinds = ("ours", "peft", "peft at best")
    turns: dict[str, list[dict]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        for kind in kinds:
            turns[kind].append(in_own_process(kind, regime, folder))
            print(f"  {regime} {number + 1}/{rounds} {kind}: {turns[kind][-1]['seconds']:.1f} s")
    _, prompts = load_work(regime, folder)
    answers = turns["ours"][0]["answers"]
    tokens = sum(len(answer) for member in answers for answer in member)
    read = ADAPTERS * sum(map(len, prompts))
    rows = ADAPTERS * settings["batch"]
    slots = read // ADAPTERS // len(prompts) + settings["new"] // 2
    floor = roofline(machine, read=read, generated=tokens, rows=rows, slots=slots)
    median = {k: statistics.median(one["seconds"] for one in turns[k]) for k in kinds}
    print(f"{regime}: {len(prompts)} prompts x {ADAPTERS} adapters, {settings['batch']} a batch")
    print(f"  {read} tokens read, {tokens} generated; roofline {floor:.1f} s")
    for kind in kinds:
        same = same_share(answers, turns[kind][0]["answers"])
        print(
            f"  {kind:12} {median[kind]:7.1f} s  {tokens / median[kind]:7.1f} generated/s  "
            f"{(read + tokens) / median[kind]:7.1f} tokens/s  "
            f"{max(one['peak_gib'] for one in turns[kind]):.2f} GiB  {same:.1%} same answers"
        )
    ratios = [
        b["seconds"] / a["seconds"] for a, b in zip(turns["ours"], turns["peft"], strict=True)
    ]
    return {
        f"{regime}_bound_ratio": statistics.median(ratios),
        f"{regime}_bound_ratios": ratios,
        f"{regime}_ratio_to_best_peer": median["peft at best"] / median["ours"],
        f"{regime}_seconds": median,
        f"{regime}_generated_per_second": {k: tokens / median[k] for k in kinds},
        f"{regime}_tokens_per_second": {k: (read + tokens) / median[k] for k in kinds},
        f"{regime}_roofline_seconds": floor,
        f"{regime}_compile_seconds": turns["ours"][0]["compile_seconds"],
        f"{regime}_same_answers": same_share(answers, turns["peft"][0]["answers"]),
        f"{regime}_peak_gib": {k: max(one["peak_gib"] for one in turns[k]) for k in kinds},
    }


def main() -> None:
    """Run the turns, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--regime", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--turn", choices=RUNS)
    parser.add_argument("--adapters", type=Path)
    given = parser.parse_args()
    if given.turn:
        result = RUNS[given.turn](given.regime[0], given.adapters)
        result["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_adapters(folder)
        for regime in given.regime:
            (folder / f"{regime}.json").write_text(json.dumps(prepare_work(regime)))
        machine = in_own_process("machine", "memory", folder)
        print(
            f"machine: {machine['flops'] / 1e9:.0f} GFLOP/s, {machine['bytes'] / 1e9:.1f} GB/s; "
            "compile seconds by depth: "
            + ", ".join(f"{d}: {s:.1f}" for d, s in machine["compiles"].items())
        )
        shallow, deep = machine["compiles"].values()
        result = {"bench": "generation", "compile_ratio_4_to_32_layers": deep / shallow}
        for regime in given.regime:
            result |= compare(regime, given.rounds, folder, machine)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
