"""Train, fuse, evaluate and report a tiny model by the command line; what bad input gets."""

import json
import shutil
import sys

import jax
import numpy as np
import pytest

from lorafuse_jax import cli
from lorafuse_jax.evaluation.archive import Archive
from lorafuse_jax.evaluation.tasks.perplexity import METRICS
from lorafuse_jax.formats import load_adapter, read_provenance
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow import train as train_module
from lorafuse_jax.workflow.fuse import FuseRequest, fuse_run
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.tiny import write_sums, write_tiny_model


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return write_tiny_model(folder / "model"), write_sums(folder / "sums")


def config(inputs, **changes):
    model, data = inputs
    settings = {"model": str(model), "data": str(data), "seeds": (1, 2), "rank": 2, "dropout": 0.1}
    settings |= {"examples": 40, "examples_per_step": 4, "heldout_examples": 4}
    return TrainConfig(**(settings | changes))


def adapters(run):
    return {seed: load_adapter(run.adapter_path(seed)) for seed in run.config()["seeds"]}


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    return train(config(inputs), tmp_path_factory.mktemp("runs") / "whole")


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["lorafuse", *map(str, words)])
    cli.main()


def test_metrics_have_every_step_and_seed_and_heldout_at_the_end(finished):
    lines = finished.metrics()
    assert [(x["step"], x["seed"]) for x in lines] == [(s, k) for s in range(1, 11) for k in (1, 2)]
    assert all("heldout_loss" in line for line in lines[-2:])
    assert lines[-1]["train_loss"] < lines[1]["train_loss"]


@pytest.mark.parametrize("stream", ["init", "order", "dropout", "subset"])
def test_shared_streams_are_shared_and_only_they(inputs, tmp_path, stream):
    streams = ("init", "order", "dropout", "subset")
    others = tuple(s for s in streams if s != stream)
    settings = {"examples": 8, "subset": 0.8}
    same = train(config(inputs, shared=streams, **settings), tmp_path / "same")
    first, second = adapters(same).values()
    jax.tree.map(np.testing.assert_array_equal, first, second)
    differ = train(config(inputs, shared=others, **settings), tmp_path / "differ")
    first, second = adapters(differ).values()
    key = "layers/mlp/up_proj"
    assert np.abs(first[key].lora_b - second[key].lora_b).max() > 0


def test_a_finished_run_is_not_trained_again(inputs, finished, monkeypatch, capsys):
    monkeypatch.setattr(train_module, "fit", lambda *a, **k: pytest.fail("trained again"))
    train(config(inputs), finished.path)


def test_commands_fuse_evaluate_and_report(finished, inputs, monkeypatch, capsys):
    _, data = inputs
    for operator in ("mean", "scaled_mean", "distribution_matching"):
        command(monkeypatch, "fuse", finished.path, "--operator", operator)
    out = finished.fused_path("loose")
    command(
        monkeypatch,
        "fuse",
        finished.path,
        "--operator",
        "seedlora",
        "--set",
        "quantile=0.8",
        "--out",
        out,
    )
    provenance = read_provenance(out)
    assert provenance["hyperparameters"]["quantile"] == 0.8
    with pytest.raises(UserError, match="holds another fusion"):
        fuse_run(finished, FuseRequest(operator="seedlora", settings=("quantile=0.7",)), out)
    command(monkeypatch, "evaluate", finished.path, "--tasks", f"{data}/test", "--limit", "4")
    answers = finished.evaluations_path / "sums-test" / "answers.jsonl"
    before = answers.read_text()
    assert len(before.splitlines()) == 7 * 4
    command(monkeypatch, "evaluate", finished.path, "--tasks", f"{data}/test", "--limit", "6")
    after = answers.read_text()
    assert after.startswith(before) and len(after.splitlines()) == 7 * 6
    command(monkeypatch, "report", finished.path)
    shown = capsys.readouterr().out
    for name in ("base", "seed-1", "seed-2", "mean", "loose"):
        assert name in (finished.path / "table.md").read_text()
        assert name in shown
    assert (finished.path / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (3, 3)}, "seed 3 is named twice"),
        ({"seeds": ()}, "no seeds"),
        ({"rank": 0}, "rank 0 is not possible"),
        ({"targets": "nothing"}, "match no module"),
        ({"max_length": 5}, "are longer than 5 tokens"),
        ({"data": "no-such-data"}, "neither a JSONL or Parquet file"),
        ({"model": "no-such-model"}, "no folder with a model"),
        ({"learning_rate": 0.0}, "learning rate must be above 0"),
    ],
)
def test_bad_input_raises_before_anything_is_written(inputs, tmp_path, changes, message):
    out = tmp_path / "run"
    with pytest.raises(UserError, match=message):
        train(config(inputs, **changes), out)
    assert not out.exists()


def test_benchmarks_go_from_a_file_to_the_table(finished, monkeypatch, tmp_path, capsys):
    run = RunFolder(shutil.copytree(finished.path, tmp_path / "run"))
    fuse_run(run, FuseRequest(operator="mean"), run.fused_path("once-more"))
    choices, texts = tmp_path / "choices.jsonl", tmp_path / "texts.jsonl"
    rows = [{"passage": f"{n} is.", "question": f"is {n}", "label": n % 2} for n in range(5)]
    choices.write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts.write_text("".join(json.dumps({"text": f"{n} and " * 60}) + "\n" for n in range(3)))
    tasks = (f"boolq:{choices}", f"boolq@trained:{choices}", f"perplexity:{texts}")
    command(monkeypatch, "evaluate", run.path, "--tasks", *tasks)
    command(monkeypatch, "report", run.path)
    table = (run.path / "table.md").read_text()
    for label, metrics, references in (
        ("boolq:choices@lm-eval", ["acc", "acc_norm"], 2),
        ("boolq:choices@trained", ["acc", "acc_norm"], 2),
        ("perplexity:texts@rolling", list(METRICS), 2),
    ):
        assert label in table
        archive = Archive(run.evaluations_path / label.replace(":", "-"))
        assert all(len(one.log_probs) == references for one in archive.answers().values())
        found = archive.scores()
        assert found.models[:3] == ["base", "seed-1", "seed-2"] and list(found.values) == metrics
        assert found.faults == [[None] * len(found.ids)] * len(found.models)
    for probability, nats in zip(found.primary.flat, found.log_likelihood.flat, strict=True):
        assert np.log(probability) == pytest.approx(nats)


def test_folder_that_is_not_empty_or_of_another_run_is_refused(inputs, finished, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        train(config(inputs), tmp_path / "full")
    with pytest.raises(UserError, match=r"(?s)another configuration.*rank: 2 there, 4 now"):
        train(config(inputs, rank=4), finished.path)


def test_run_from_another_model_is_refused(inputs, tmp_path, monkeypatch, capsys):
    run = train(config(inputs, examples=4), tmp_path / "run")
    described = run.config()
    other = write_tiny_model(tmp_path / "other", seed=3)
    run.config_path.write_text(json.dumps(described | {"model": str(other)}))
    with pytest.raises(SystemExit, match="2"):
        command(monkeypatch, "evaluate", run.path)
    assert "was trained on another model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--operator", "blend"), "no fusion operator 'blend'\nthere are mean"),
        (("--operator", "seedlora", "--set", "quantle=1"), "quantile: float"),
        (("--operator", "seedlora", "--set", "quantile=two"), "quantile cannot be 'two'"),
        (("--operator", "../mean"), "no fusion operator"),
    ],
)
def test_wrong_operators_and_settings_list_the_real_ones(
    finished, monkeypatch, capsys, words, message
):
    with pytest.raises(SystemExit, match="2"):
        command(monkeypatch, "fuse", finished.path, *words)
    assert message in capsys.readouterr().err


def test_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="is no run folder"):
        RunFolder(tmp_path).config()


@pytest.mark.parametrize(("words", "quick"), [((), False), (("--quick",), True)])
def test_demo_takes_quick_as_a_flag(monkeypatch, words, quick):
    asked = []
    monkeypatch.setattr(cli, "demo", lambda out, *, quick: asked.append(quick))
    command(monkeypatch, "demo", *words)
    assert asked == [quick]
