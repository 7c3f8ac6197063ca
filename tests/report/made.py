"""A run made up at random: several benchmarks, metrics, groups, faults, long and strange texts."""

import numpy as np

from lorafuse_jax.evaluation.benchmark import Question
from lorafuse_jax.evaluation.records import Answer
from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.evaluation.summary import summarize
from lorafuse_jax.report.page import RunReport
from lorafuse_jax.report.sections.diagnostics import LayerDiagnostics, ModuleDiagnostics
from lorafuse_jax.report.sections.rerun import Rerun
from lorafuse_jax.report.sections.result import Result

MODELS = {
    "base": ("base", 0.05),
    "seed-11": ("seed", 0.45),
    "seed-42": ("seed", 0.4),
    "seed-202": ("seed", 0.42),
    "distribution_matching": ("fused", 0.38),
    "mean": ("fused", 0.6),
    "core_space-dare_ties-with-a-long-name": ("fused", 0.43),
    "seedlora": ("fused", 0.47),
}
TEXT = "Natalia sold clips <b>half</b> as many & in May. 48/2 = 24, so #### 72"
WORDS = [*TEXT.split(), "\n"]


def made_result(
    task="gsm8k@metamath",
    examples=120,
    groups=0,
    strict=True,
    fault=0.02,
    seed=0,
    names=("seed-11", "seed-42", "seed-202"),
):
    rng = np.random.default_rng(seed)
    models = ["base", *names, *list(MODELS)[4:]]
    kinds = [kind for kind, _ in MODELS.values()]
    hard = rng.random(examples)
    chance = np.array([rate for _, rate in MODELS.values()])[:, None] + 0.6 * (0.5 - hard)
    right = (rng.random((len(models), examples)) < chance).astype(float)
    values = {"correct": right}
    if strict:
        values |= {"strict-match": right * (rng.random(right.shape) < 0.8), "short": 1 - right / 2}
    faults = [
        [
            "TimeoutError: stopped after 10 s" if rng.random() < fault else None
            for _ in range(examples)
        ]
        for _ in models
    ]
    ids = [f"{task.split('@')[0]}-{n}" for n in range(examples)]
    scores = Scores(
        task=task,
        models=models,
        kinds=kinds,
        ids=ids,
        groups=[f"group {n % groups}" if groups else "" for n in range(examples)],
        values=values,
        log_likelihood=-rng.random(right.shape) - 0.1 * (1 - right),
        answers=[[str(n) if x else "99" for n, x in enumerate(row)] for row in right],
        references=[str(n) for n in range(examples)],
        faults=faults,
    )
    answers = {
        (id, model): Answer(
            id=id,
            model=model,
            kind=kind,
            weights="w",
            texts=[" ".join(rng.choice(WORDS, rng.integers(20, 300)))],
            generated=[int(rng.integers(20, 200))],
            log_probs=[-3.0],
            tokens=[4],
            greedy=[False],
        )
        for id in ids
        for model, kind in zip(models, kinds, strict=True)
    }
    questions = {
        id: Question(
            id=id,
            where=f"test.jsonl:{n + 1}",
            prompt=" ".join(rng.choice(WORDS, 60)),
            gold=str(n),
            group=scores.groups[n],
        )
        for n, id in enumerate(ids)
    }
    return Result(
        summary=summarize(scores, names[0]), scores=scores, questions=questions, answers=answers
    )


def made_metrics(steps=400, seeds=(11, 42, 202)):
    rng = np.random.default_rng(1)
    lines = []
    for step in range(1, steps + 1):
        for seed in seeds:
            loss = 0.3 + 1.5 * float(np.exp(-step / 60)) + 0.1 * float(rng.random())
            line = {"step": step, "seed": seed, "train_loss": loss, "tokens": 3000}
            held = {"heldout_loss": loss + 0.05} if step % 50 == 0 else {}
            lines.append(line | held | {"tokens_per_s": 300.0 + step, "peak_share": 0.3})
        if step % 50 == 0:
            lines.append({"step": step, "fused": "mean", "heldout_loss": loss - 0.03})
    return lines


def made_costs():
    machine = {"device": "cpu", "cores": "2", "system": "Linux", "python": "3.11", "jax": "0.10"}
    about = [("train", "3 seeds", {"steps": 400}), ("fuse", "mean", {"members": 3})]
    about += [("evaluate", "gsm8k@metamath", {"answers": 960, "tokens": 99000})]
    return [
        {
            "verb": verb,
            "about": name,
            "seconds": 340.5,
            "peak_bytes": 3 << 30,
            "device_peak_bytes": None,
            "machine": machine,
            "counts": counts,
        }
        for verb, name, counts in about
    ]


def made_diagnostics(layers=30):
    rng = np.random.default_rng(2)
    names = ("self_attn/q_proj", "self_attn/k_proj", "self_attn/v_proj", "mlp/up_proj")
    draw = lambda low, high: rng.uniform(low, high, layers).tolist()  # noqa: E731
    return LayerDiagnostics(
        rows=64,
        modules={
            f"layers/{name}": ModuleDiagnostics(
                cosine=[None, *draw(-0.1, 0.3)[1:]],
                same_sign=[None, *draw(0.48, 0.55)[1:]],
                robust=[None, *draw(0.2, 0.3)[1:]],
                conflicting=[None, *draw(0.01, 0.02)[1:]],
            )
            for name in names
        },
        norms={f"seed-{seed}": draw(0.9, 1.1) for seed in (11, 42, 202)},
        fused={"mean": draw(0.5, 0.6), "seedlora": draw(1.0, 1.2)},
    )


def made_rerun():
    return Rerun(
        commands=[
            "lorafuse train --model smollm2-135m-instruct --data gsm8k --seeds 11 42 202 --out r",
            "lorafuse fuse r --operator mean",
            "lorafuse report r",
        ],
        facts=[("seeds", "11 42 202"), ("sha256 of the model", "5b29acb15389ea3a" * 4)],
        versions={"jax": "0.10.2", "python": "3.11.7"},
        hashes={"seed-11": "0306bed0fa0cd95f" * 4, "mean": "fc8d3b49ddfa00c7" * 4},
        notes=["mean was fused from another seed-11 than the one that is here now."],
    )


def made_run(**changes):
    given = {
        "title": "Fusing 3 seeds: <run>",
        "lead": "smollm2-135m-instruct on gsm8k, 400 examples each; lora, rank 8.",
        "results": [
            made_result(),
            made_result("mmlu/test", 200, groups=12, strict=False, fault=0, seed=3),
        ],
        "metrics": made_metrics(),
        "costs": made_costs(),
        "diagnostics": made_diagnostics(),
        "rerun": made_rerun(),
    }
    return RunReport(**(given | changes))
