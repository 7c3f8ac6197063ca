"""Controls from other runs, the seeds' ensemble, and answers that are known already."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapted import forward
from lorafuse_jax.formats import load_adapter
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow import answering
from lorafuse_jax.workflow.answering import ENSEMBLE
from lorafuse_jax.workflow.benchmarks import pose
from lorafuse_jax.workflow.beside import Beside, parse_beside
from lorafuse_jax.workflow.evaluate import archives_of, evaluate
from lorafuse_jax.workflow.fuse import FuseRequest, fuse_run
from lorafuse_jax.workflow.questions import requests_of
from lorafuse_jax.workflow.report import report
from lorafuse_jax.workflow.rerun import evaluate_command
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.tiny import write_sums, write_tiny_model

LIMIT = 3


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return write_tiny_model(folder / "model"), write_sums(folder / "sums")


def trained(inputs, folder, **changes):
    model, data = inputs
    settings = {"examples": 8, "examples_per_step": 4, "heldout_examples": 4, "learning_rate": 0.05}
    settings |= {"seeds": (1, 2, 3)} | ({} if "method" in changes else {"rank": 2})
    return train(TrainConfig(model=str(model), data=str(data), **(settings | changes)), folder)


@pytest.fixture(scope="module")
def runs(inputs, tmp_path_factory):
    """Three seeds with fused ones, low-rank and dense; a control of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    run = trained(inputs, folder / "run")
    for operator in ("mean", "ties"):
        fuse_run(run, FuseRequest(operator=operator), run.fused_path(operator))
    fuse_run(run, FuseRequest(operator="mean"), run.fused_path("mean-again"))
    controls = {
        "wide": trained(inputs, folder / "wide", seeds=(7,), rank=4),
        "full": trained(inputs, folder / "full", seeds=(7,), method="full"),
    }
    return run, controls


@pytest.fixture
def run(runs, tmp_path):
    return RunFolder(shutil.copytree(runs[0].path, tmp_path / "run"))


def task(inputs):
    return [f"{inputs[1]}/test"]


def asked_names(monkeypatch):
    """Whoever is really asked, with the number of questions, as it happens."""
    real, asked = answering._answer, []

    def watched(one, model, adapters, speakers, queues, *rest):
        asked.extend((s.name, len(q)) for s, q in zip(speakers, queues, strict=True))
        real(one, model, adapters, speakers, queues, *rest)

    monkeypatch.setattr(answering, "_answer", watched)
    return asked


def slow(model, run, adapters, request):
    """Text and log-probability by the mean of the members' logits, one forward a token."""

    def logits(tokens):
        padded = np.zeros((1, 128), np.int32)
        padded[0, : len(tokens)] = tokens
        each = [np.asarray(run(one, jnp.asarray(padded)))[: len(tokens)] for one in adapters]
        return np.mean(np.asarray(each, np.float64), axis=0)

    tokens = list(request.prompt)
    for _ in range(request.max_new_tokens):
        token = int(logits(tokens)[-1].argmax())
        if token in model.stop_tokens:
            break
        tokens.append(token)
    whole = np.concatenate([request.prompt, request.reference])
    of_reference = logits(whole)[len(request.prompt) - 1 : -1]
    normalised = of_reference - np.log(np.exp(of_reference).sum(-1, keepdims=True))
    chosen = normalised[np.arange(len(request.reference)), request.reference]
    return model.tokenizer.decode(tokens[len(request.prompt) :]), chosen.sum()


def test_the_seeds_answer_together_as_slow_decoding_says(run, inputs):
    evaluate(run, task(inputs), LIMIT, ensemble=True)
    (archive,) = archives_of(run)
    answers, model = archive.answers(), load_model(inputs[0])
    seeds = [load_adapter(run.adapter_path(seed)) for seed in (1, 2, 3)]
    dense = [load_adapter(run.fused_path("ties"))]
    posed = pose(task(inputs)[0], LIMIT)
    whole = jax.jit(lambda adapter, tokens: forward(model, model.params, adapter, tokens)[0])
    texts = {}
    for name, adapters in ((ENSEMBLE, seeds), ("ties", dense), ("seed-2", seeds[1:2])):
        for question, requests in zip(
            posed.questions, requests_of(posed, model, "qa"), strict=True
        ):
            text, log_prob = slow(model, whole, adapters, requests[0])
            answer = answers[question.id, name]
            assert answer.texts == [text]
            assert answer.log_probs == pytest.approx([log_prob], abs=1e-3)
            texts.setdefault(name, []).append((text, log_prob))
    assert len({str(own) for own in texts.values()}) == 3
    assert "--ensemble" in evaluate_command(archive, run.path)
    (summary,) = report(run)
    row = next(row for row in summary.rows if row.kind == "ensemble")
    assert row.name == ENSEMBLE and row.accuracy_p is not None and row.log_likelihood is not None


def test_controls_stand_in_the_same_table(runs, run, inputs):
    controls = runs[1]
    words = [f"{name}={own.adapter_path(7)}" for name, own in controls.items()]
    evaluate(run, task(inputs), LIMIT, beside=parse_beside(words))
    (archive,) = archives_of(run)
    scores = archive.scores()
    assert [scores.models[n] for n in scores.rows_of("control")] == ["full", "wide"]
    command = evaluate_command(archive, run.path)
    assert all(word in command for word in words)
    (summary,) = report(run)
    rows = {row.name: row for row in summary.rows if row.kind == "control"}
    assert rows.keys() == {"wide", "full"} and all(row.accuracy_gain for row in rows.values())
    assert "wide" in (run.path / "report.html").read_text()
    own = controls["full"]
    evaluate(own, task(inputs), LIMIT)
    (theirs,) = archives_of(own)
    same = [theirs.answers()[id, "seed-7"].texts for id in scores.ids]
    assert [archive.answers()[id, "full"].texts for id in scores.ids] == same


def test_equal_weights_are_asked_once_and_known_answers_not_again(
    runs, run, inputs, tmp_path, monkeypatch
):
    asked = asked_names(monkeypatch)
    evaluate(run, task(inputs), LIMIT, ensemble=True)
    assert sorted(asked) == sorted(
        [(name, LIMIT) for name in ("base", "seed-1", "seed-2", "seed-3", "mean", "ties")]
        + [(ENSEMBLE, LIMIT)]
    )
    (archive,) = archives_of(run)
    answers = archive.answers()
    for question in archive.questions():
        assert answers[question.id, "mean"].texts == answers[question.id, "mean-again"].texts
    asked.clear()
    other = RunFolder(shutil.copytree(runs[1]["wide"].path, tmp_path / "other"))
    evaluate(other, task(inputs), LIMIT, known=[run], beside=[Beside("one", run.adapter_path(1))])
    assert asked == [("seed-7", LIMIT)]
    (theirs,) = archives_of(other)
    for id in theirs.scores().ids:
        for name, known in (("base", "base"), ("one", "seed-1")):
            assert theirs.answers()[id, name].log_probs == answers[id, known].log_probs
    asked.clear()
    evaluate(run, task(inputs), LIMIT + 1, known=[other])
    assert {number for _, number in asked} == {1}


def test_answers_to_other_questions_or_asked_otherwise_are_not_known(
    runs, run, inputs, tmp_path, monkeypatch
):
    evaluate(run, task(inputs), LIMIT)
    (archive,) = archives_of(run)
    asked = asked_names(monkeypatch)
    first = RunFolder(shutil.copytree(runs[1]["wide"].path, tmp_path / "first"))
    lines = archive.questions_path.read_text().splitlines()
    changed = json.loads(lines[0])
    lines[0] = json.dumps(changed | {"prompt": f"{changed['prompt']} "})
    archive.questions_path.write_text("".join(f"{line}\n" for line in lines))
    evaluate(first, task(inputs), LIMIT, known=[run])
    assert ("base", 1) in asked
    asked.clear()
    second = RunFolder(shutil.copytree(runs[1]["wide"].path, tmp_path / "second"))
    archive.describe(archive.asked() | {"framing": "alpaca"})
    evaluate(second, task(inputs), LIMIT, known=[run])
    assert ("base", LIMIT) in asked


def test_what_cannot_answer_beside_is_refused_before_anything_is_asked(runs, run, inputs, tmp_path):
    refused = [
        ({"beside": [Beside("x", tmp_path)]}, "holds neither an adapter nor a model"),
        ({"beside": [Beside("mean", run.adapter_path(1))]}, "there is a model mean already"),
        ({"beside": [Beside("x", run.adapter_path(1))] * 2}, "there is a model x already"),
    ]
    for options, message in refused:
        with pytest.raises(UserError, match=message):
            evaluate(run, task(inputs), LIMIT, **options)
    with pytest.raises(UserError, match="is no name for a folder"):
        parse_beside([f"a b={tmp_path}"])
    with pytest.raises(UserError, match="no base in common"):
        two = RunFolder(shutil.copytree(runs[1]["full"].path, tmp_path / "two"))
        config = two.config()
        two.config_path.write_text(json.dumps(config | {"seeds": [7, 8]}))
        shutil.copytree(two.adapter_path(7), two.adapter_path(8))
        evaluate(two, task(inputs), LIMIT, ensemble=True)
    with pytest.raises(UserError, match="one seed alone"):
        evaluate(runs[1]["wide"], task(inputs), LIMIT, ensemble=True)
    assert not run.evaluations_path.exists()
    other = RunFolder(shutil.copytree(run.path, tmp_path / "elsewhere"))
    other.config_path.write_text(json.dumps(run.config() | {"model_fingerprint": "another"}))
    with pytest.raises(UserError, match="trained on another base"):
        evaluate(run, task(inputs), LIMIT, known=[other])
