"""Predictions made up for the tests of evaluation and report."""

from lorafuse_jax.evaluation.predictions import Prediction

KINDS = {"base": "base", "seed-1": "seed", "seed-2": "seed", "mean": "fused", "twin": "fused"}
RIGHT = {
    "base": set(),
    "seed-1": {0, 1, 2, 3},
    "seed-2": {2, 3, 4, 5},
    "mean": set(range(10)),
    "twin": set(range(10)),
}


def row(model, kind, number, prediction, logprob=-2.0, **changes):
    given = {
        "task": "t/test",
        "id": f"e{number}",
        "model": model,
        "kind": kind,
        "text": f"<b>#### {prediction}</b>",
        "prediction": prediction,
        "reference": str(number),
        "correct": prediction == str(number),
        "logprob": logprob,
        "tokens": 4,
    }
    return Prediction(**(given | changes))


def rows(models=("base", "seed-1", "seed-2", "mean")):
    """Ten questions: two seeds right on some, the fused one on all, the base on none."""
    return [
        row(
            model,
            KINDS[model],
            n,
            str(n) if n in RIGHT[model] else "99",
            logprob=-4.0 + len(RIGHT[model]),
        )
        for model in models
        for n in range(10)
    ]
