import json

import numpy as np
import pytest

from lorafuse_jax.evaluation.predictions import Prediction, append, done, read, scores_by_task
from lorafuse_jax.evaluation.summary import summarize
from lorafuse_jax.report.page import report_page
from lorafuse_jax.report.table import cells, markdown_table, verdict
from lorafuse_jax.types import UserError


def row(model, kind, number, prediction, logprob=-2.0, task="t/test"):
    return Prediction(
        task=task,
        id=f"e{number}",
        model=model,
        kind=kind,
        text=f"<b>#### {prediction}</b>",
        prediction=prediction,
        reference=str(number),
        correct=prediction == str(number),
        logprob=logprob,
        tokens=4,
    )


def rows():
    """Ten questions: two seeds right on some, the fused one on all, the base on none."""
    right = {"base": set(), "seed-1": {0, 1, 2, 3}, "seed-2": {2, 3, 4, 5}, "mean": set(range(10))}
    kinds = {"base": "base", "seed-1": "seed", "seed-2": "seed", "mean": "fused"}
    return [
        row(
            model,
            kinds[model],
            n,
            str(n) if n in right[model] else "99",
            logprob=-4.0 + len(right[model]),
        )
        for model in right
        for n in range(10)
    ]


def test_summary_rows_by_hand():
    summary = summarize(scores_by_task(rows())[0], "seed-2")
    values = {r.name: r.accuracy.value for r in summary.rows}
    assert values == {
        "base": 0.0,
        "seed-1": 0.4,
        "seed-2": 0.4,
        "mean of seeds": pytest.approx(0.4),
        "best on validation: seed-2": 0.4,
        "mean": 1.0,
        "majority vote": pytest.approx(0.4),  # two voters: the first wins where they differ
        "any seed right (a bound)": pytest.approx(0.6),
    }
    fused = summary.row("fused")
    assert fused.accuracy_gain.difference.value == pytest.approx(0.6)
    assert fused.likelihood_gain.difference.value == pytest.approx((6 - 0) / 4)
    assert fused.accuracy_p >= fused.accuracy_gain.p_value
    assert summary.agreement == pytest.approx(0.6)
    json.dumps(summary.to_dict())


def test_incomplete_matrix_names_what_is_missing():
    with pytest.raises(UserError, match="mean lacks 1 of 10 examples, the first is e9"):
        scores_by_task(rows()[:-1])


def test_predictions_survive_a_torn_last_line(tmp_path):
    path = tmp_path / "predictions.jsonl"
    append(path, rows()[:3])
    with path.open("a") as file:
        file.write('{"task": "t/te')
    append(path, rows()[3:5])
    assert read(path) == rows()[:5]
    assert ("t/test", "e4", "base") in done(path)


def test_damaged_line_is_named(tmp_path):
    path = tmp_path / "predictions.jsonl"
    append(path, rows()[:2])
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(UserError, match=r"predictions\.jsonl:3: not a prediction"):
        read(path)


def test_tables_and_page_say_the_same_and_escape_text():
    summary = summarize(scores_by_task(rows())[0], "seed-2")
    table = markdown_table(summary)
    assert all(r.name in table for r in summary.rows)
    assert cells(summary.row("fused"))[1].startswith("100.0")
    metrics = [
        {"step": s, "seed": k, "train_loss": 1.0, "heldout_loss": 2.0}
        for s in (1, 2)
        for k in (1, 2)
    ]
    page = report_page(
        title="<run>", facts={"a": "<b>"}, summaries=[summary], predictions=rows(), metrics=metrics
    )
    assert "<run>" not in page and "&lt;run&gt;" in page and "<b>#### " not in page
    assert "http" not in page.replace("http://www.w3.org", "").replace(
        "http://creativecommons", ""
    ).replace("http://purl", "").replace("https://matplotlib.org", "")


def test_verdict_is_as_strong_as_the_numbers():
    strong = summarize(scores_by_task(rows())[0], "seed-2")
    assert "mean: better than the mean seed" in verdict(strong)
    rng = np.random.default_rng(0)
    weak = [
        row(m, k, n, str(n) if rng.random() < 0.5 else "99")
        for m, k in {"seed-1": "seed", "seed-2": "seed", "mean": "fused"}.items()
        for n in range(10)
    ]
    assert "not told apart" in verdict(summarize(scores_by_task(weak)[0], "seed-1"))
