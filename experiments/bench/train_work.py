"""What ``train_throughput.py`` runs in fresh processes: training by us, and by PEFT.

Both train LoRA (r = 8 on all linear layers) of SmolLM2-135M on real text with a loss on the answer
alone, by AdamW with the same schedule and clipping. A worker prints one JSON line.
"""

import argparse
import json
import resource
import time
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lorafuse_jax import lora
from lorafuse_jax.assets import fetch
from lorafuse_jax.data import batches, loader
from lorafuse_jax.data.encode import encode_split
from lorafuse_jax.data.examples import load_task
from lorafuse_jax.data.order import order_for_epoch
from lorafuse_jax.models import block, head
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.training.flops import count_work, needed_flops
from lorafuse_jax.workflow.inputs import EncodedTask
from lorafuse_jax.workflow.throughput import model_size
from lorafuse_jax.workflow.train_config import TrainConfig
from lorafuse_jax.workflow.trainer import make_trainer

SEEDS = (11, 42, 202, 7, 23, 99, 314, 2718)
RANK, ALPHA, LEARNING_RATE = 8, 16, 1e-3
HELDOUT = 48
MEANS = (
    "packing",
    "stratified order",
    "losses only",
    "chunked head",
    "grouped attention",
    "rematerialisation",
    "LoRA gradients",
    "seeds together",
)
"""What may be switched off, one at a time."""


def load_text(data: str) -> tuple:
    """Model folder, tokenizer's examples for training, and for validation."""
    from transformers import AutoTokenizer

    folder = fetch("smollm2-135m-instruct", say=lambda line: None)
    task = load_task(fetch(data, say=lambda line: None))
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(split):
        return encode_split(task.splits[split], tokenizer, "qa", max_length=8192).examples

    return folder, encode("train"), encode("validation")[:HELDOUT]


def without(means: str) -> dict:
    """Switch one means off, by settings or in the code."""
    settings = {"rematerialisation": {"remat": "nothing"}, "seeds together": {"seeds_per_pass": 1}}
    alone = lambda lengths, row_length: [[n] for n in range(len(lengths))]  # noqa: E731
    shuffled = lambda seed, epoch, lengths, _: order_for_epoch(seed, epoch, lengths)  # noqa: E731
    plain = lambda x, lora_a, lora_b: (x @ lora_a) @ lora_b  # noqa: E731
    patches: dict[str, list[tuple[Any, str, Any]]] = {
        "packing": [(batches, "assign_rows", alone), (loader, "assign_rows", alone)],
        "stratified order": [(loader, "order_for_epoch", shuffled)],
        "chunked head": [(head, "CHUNK", 1 << 30)],
        "grouped attention": [(block, "attend", _plain_attention)],
        "LoRA gradients": [(lora, "_low_rank_product", plain)],
    }
    for module, name, value in patches.get(means, []):
        setattr(module, name, value)
    return settings.get(means, {})


def _plain_attention(queries, keys, values, visible, scale, softcap):
    """The usual einsum, keys and values repeated for every query head."""
    groups = queries.shape[2] // keys.shape[1]
    keys, values = (jnp.repeat(x, groups, axis=1) for x in (keys, values))
    scores = jnp.einsum("btnh,bnch->bntc", queries * scale, keys)
    scores = jnp.where(visible[:, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1)
    return jnp.einsum("bntc,bnch->btnh", weights, values)


def with_all_losses(batch):
    """Every place has a loss, of weight zero where there was none."""
    size = batch.tokens.shape[-2] * batch.tokens.shape[-1]
    lead = batch.loss_index.shape[:-1]
    weight, target = np.zeros((*lead, size), np.float32), np.zeros((*lead, size), np.int32)
    np.put_along_axis(weight, batch.loss_index, batch.loss_weight, axis=-1)
    np.put_along_axis(target, batch.loss_index, batch.loss_target, axis=-1)
    index = np.broadcast_to(np.arange(size, dtype=np.int32), weight.shape)
    return batch._replace(
        loss_index=index, loss_target=target, loss_weight=weight, loss_example=np.zeros_like(target)
    )


def run_ours(options) -> dict:
    """All seeds at once."""
    folder, train, validation = load_text(options.data)
    model = load_model(folder, dtype=jnp.dtype(options.dtype))
    config = TrainConfig(
        model=str(folder),
        data=options.data,
        seeds=SEEDS[: options.seeds],
        rank=RANK,
        alpha=float(ALPHA),
        learning_rate=LEARNING_RATE,
        examples=options.steps * options.batch,
        examples_per_step=options.batch,
        heldout_examples=HELDOUT,
        remat=options.remat,
    )
    config = replace(config, **without(options.off))
    trainer = make_trainer(config, model, EncodedTask(folder, "", "qa", train, validation, 0))
    state, member, base = trainer.fresh_state(), trainer.member(), trainer.method.base
    size = model_size(model, state.adapter)
    change = with_all_losses if options.off == "losses only" else lambda batch: batch
    result: dict[str, Any] = {"times": [], "tokens": [], "answers": [], "flops": [], "padded": []}
    began = time.perf_counter()
    shapes = {change(trainer.loader.batch(n)).tokens.shape: n for n in range(options.steps)}
    plan = [change(trainer.loader.batch(n)) for n in shapes.values()]
    step_fn: Any = trainer.step_fn
    compiled = {
        batch.tokens.shape: step_fn.lower(state, base, batch, member).compile() for batch in plan
    }
    result["compile_s"] = time.perf_counter() - began
    memory = max(step.memory_analysis().temp_size_in_bytes for step in compiled.values())
    result["temporary_gb"] = memory / 1e9
    for number in range(options.steps):
        began = time.perf_counter()
        batch = change(trainer.loader.batch(number))
        result["batch_s"] = time.perf_counter() - began
        began = time.perf_counter()
        step = compiled[batch.tokens.shape]
        state, loss = jax.block_until_ready(step(state, base, batch, member))
        result["times"].append(time.perf_counter() - began)
        work = count_work(batch)
        result["tokens"].append(work.tokens)
        result["answers"].append(work.losses)
        result["flops"].append(needed_flops(size, work))
        result["padded"].append(batch.tokens.size)
        if number == 0:
            result["first_loss"] = loss.tolist()
    if options.heldout:
        result["heldout"] = np.asarray(trainer.heldout(state, base)).tolist()
    return result


def run_peft(options) -> dict:
    """The same seeds one after the other, batches padded to their longest example.

    The first step, which is not counted, takes our first batch; the others take plainly shuffled
    ones, which hold fewer long examples than ours do.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(2)
    folder, train, validation = load_text(options.data)
    lengths = np.array([example.length for example in train])
    count = options.steps
    result: dict[str, Any] = {"times": [0.0] * count, "tokens": [0] * count, "answers": [0] * count}
    result |= {"padded": [0] * count, "first_loss": [], "heldout": []}
    for seed in SEEDS[: options.seeds]:
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, options.dtype))
        settings = LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        model = get_peft_model(base, settings)
        model.train()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_schedule, count))
        ours = order_for_epoch(seed, 0, lengths, options.batch)[: options.batch]
        shuffled = order_for_epoch(seed, 0, lengths)
        for step in range(count):
            chosen = shuffled[step * options.batch : (step + 1) * options.batch]
            some = [train[n] for n in (chosen if step else ours)]
            batch = torch_batch(some, torch)
            began = time.perf_counter()
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            result["times"][step] += time.perf_counter() - began
            rate.step()
            result["tokens"][step] += sum(example.length for example in some)
            result["answers"][step] += sum(example.num_losses for example in some)
            result["padded"][step] += batch["input_ids"].numel()
            if step == 0:
                result["first_loss"].append(loss.item())
        if options.heldout:
            result["heldout"].append(_torch_heldout(model, validation, torch))
    return result


def _schedule(count: int, step: int) -> float:
    """Ours: linear warm-up over a twentieth of the steps, then a cosine to a tenth."""
    warmup = round(0.05 * count)
    if step < warmup:
        return step / warmup
    share = min(1.0, (step - warmup) / max(1, count - warmup))
    return 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * share))


def _torch_heldout(model, examples, torch) -> float:
    model.eval()
    total, answers = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(examples), 16):
            some = examples[start : start + 16]
            count = sum(example.num_losses for example in some)
            total += model(**torch_batch(some, torch)).loss.item() * count
            answers += count
    return total / answers


def torch_batch(examples, torch) -> dict:
    """Padded on the right to the longest, labels on the answers."""
    longest = max(example.length for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, example in enumerate(examples):
        here = slice(0, example.length)
        ids[row, here] = torch.from_numpy(np.asarray(example.tokens)).long()
        answer = torch.from_numpy(np.asarray(example.loss_weight) > 0)
        labels[row, here] = torch.where(answer, ids[row, here], -100)
        mask[row, here] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def run_gemm(_options) -> dict:
    """The best rate of float32 products, in XLA and in torch: large ones, and those of a step."""
    import torch

    torch.set_num_threads(2)
    multiply = jax.jit(lambda x, y: x @ y)
    best = {}
    for name, (m, k, n) in {"large": (2048, 2048, 2048), "step": (1792, 576, 1536)}.items():
        x, y = (
            jax.random.normal(jax.random.key(0), (m, k)),
            jax.random.normal(jax.random.key(1), (k, n)),
        )
        a, b = torch.randn(m, k), torch.randn(k, n)
        jax.block_until_ready(multiply(x, y))
        for _ in range(15):
            for library, product in (
                ("xla", lambda x=x, y=y: jax.block_until_ready(multiply(x, y))),
                ("torch", lambda a=a, b=b: a @ b),
            ):
                began = time.perf_counter()
                product()
                rate = 2 * m * k * n / (time.perf_counter() - began) / 1e9
                best[f"{library} {name}"] = max(best.get(f"{library} {name}", 0.0), rate)
    return best


def main() -> None:
    """Run one worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("worker", choices=("ours", "peft", "gemm"))
    parser.add_argument("--data", default="asdiv")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--remat", default="projections")
    parser.add_argument("--off", default="", choices=("", *MEANS))
    parser.add_argument("--heldout", action="store_true")
    options = parser.parse_args()
    workers = {"ours": run_ours, "peft": run_peft, "gemm": run_gemm}
    result = workers[options.worker](options)
    result["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(result))


if __name__ == "__main__":
    main()
