"""Answers made up for the tests of evaluation and report."""

import numpy as np

from lorafuse_jax.evaluation.archive import Archive
from lorafuse_jax.evaluation.benchmark import Question
from lorafuse_jax.evaluation.checkers import CHECKERS
from lorafuse_jax.evaluation.records import Answer, append
from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.evaluation.tasks.own import own_benchmark

BENCHMARK = own_benchmark("number", CHECKERS["number"])
ASKED = {"label": "t/test", "benchmark": "number", "asked_as": "", "likelihood": True}
KINDS = {"base": "base", "seed-1": "seed", "seed-2": "seed", "mean": "fused", "twin": "fused"}
RIGHT = {
    "base": set(),
    "seed-1": {0, 1, 2, 3},
    "seed-2": {2, 3, 4, 5},
    "mean": set(range(10)),
    "twin": set(range(10)),
}
MODELS = ("base", "seed-1", "seed-2", "mean")


def question(number, **changes):
    given = {"id": f"e{number}", "where": f"t.jsonl:{number + 1}", "prompt": f"<What> is {number}?"}
    return Question(**(given | {"gold": str(number), "references": ("so",)} | changes))


def answer(model, number, said, **changes):
    given = {
        "id": f"e{number}",
        "model": model,
        "kind": KINDS[model],
        "weights": "w",
        "texts": [f"<b>#### {said}</b>"],
        "generated": [3],
        "log_probs": [-4.0 + len(RIGHT[model])],
        "tokens": [4],
        "greedy": [False],
    }
    return Answer(**(given | changes))


def answers(models=MODELS, examples=range(10)):
    """Ten questions: two seeds right on some, the fused one on all, the base on none."""
    return [answer(m, n, n if n in RIGHT[m] else 99) for m in models for n in examples]


def archive(folder, rows=None, examples=range(10)):
    """The folder in which all that is, scored."""
    made = Archive(folder / "t-test")
    made.open_for(ASKED, [question(n) for n in examples])
    append(made.answers_path, answers() if rows is None else rows)
    made.score(BENCHMARK)
    return made


def scores(models=MODELS, examples=range(10)):
    """The same as a matrix, written down apart from the code under test."""
    kinds = [KINDS[model] for model in models]
    right = np.array([[float(n in RIGHT[m]) for n in examples] for m in models])
    return matrix(models, kinds, right, [str(n) for n in examples])


def matrix(models, kinds, right, references, log_likelihood=None):
    """A matrix of answers: the reference where right, 99 elsewhere."""
    if log_likelihood is None:
        each = [-1 + len(RIGHT.get(model, ())) / 4 for model in models]
        log_likelihood = np.repeat(np.array(each)[:, None], right.shape[1], axis=1)
    return Scores(
        task="t/test",
        models=list(models),
        kinds=list(kinds),
        ids=[f"e{reference}" for reference in references],
        groups=[""] * len(references),
        values={"correct": right},
        log_likelihood=log_likelihood,
        answers=[[r if x else "99" for r, x in zip(references, row, strict=True)] for row in right],
        references=list(references),
        faults=[[None] * len(references) for _ in models],
    )
