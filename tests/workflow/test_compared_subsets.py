"""Fused adapters of every subset answer beside the others, and are told by number of seeds."""

import json
import shutil
import sys
from itertools import combinations

import jax
import numpy as np
import pytest

from lorafuse_jax import OPERATORS, cli, load_model, memory
from lorafuse_jax.adapter import stack
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.compared_subsets import fused_of_all, subset_members
from lorafuse_jax.workflow.fuse import FuseRequest, fuse_run
from lorafuse_jax.workflow.members import load_update
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.tiny import write_sums, write_tiny_model

SEEDS = (5, 3, 8)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return write_tiny_model(folder / "model"), write_sums(folder / "sums")


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    settings = {"model": str(inputs[0]), "data": str(inputs[1]), "seeds": SEEDS, "rank": 2}
    settings |= {"examples": 4, "examples_per_step": 4, "heldout_examples": 2}
    run = train(TrainConfig(**settings), tmp_path_factory.mktemp("runs") / "run")
    fuse_run(run, FuseRequest(operator="mean"), run.fused_path("soup"))
    return run


def test_members_are_the_operators_results_on_the_seeds_they_are_named_after(run, inputs):
    model = load_model(inputs[0])
    each = {seed: load_update(run.adapter_path(seed), model) for seed in SEEDS}
    found = {one.name: one for one in subset_members(run, model, ["mean", "ties"])}
    pairs = list(combinations(SEEDS, 2))
    expected = [f"mean({a}+{b})" for a, b in pairs] + [f"ties({a}+{b})" for a, b in pairs]
    assert list(found) == [*expected, "ties(5+3+8)"]  # the mean of all is the run's own
    assert {one.kind for one in found.values()} == {"subset"}
    for name, member in found.items():
        operator, _, names = name[:-1].partition("(")
        direct = OPERATORS[operator](stack([each[int(seed)] for seed in names.split("+")]))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), member.adapter, direct
        )


def test_fused_adapter_of_all_is_known_by_its_provenance(run, tmp_path):
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "copy"))
    assert fused_of_all(copy, OPERATORS["mean"]) == "soup"
    assert fused_of_all(copy, OPERATORS["scaled_mean"]) is None
    fuse_run(copy, FuseRequest(operator="scaled_mean", rank=2), copy.fused_path("small"))
    fuse_run(copy, FuseRequest(operator="ties", settings=("density=0.5",)), copy.fused_path("own"))
    fuse_run(copy, FuseRequest(operator="svd", weights=(1.0, 2.0, 3.0)), copy.fused_path("tilted"))
    for operator in ("scaled_mean", "ties", "svd"):
        assert fused_of_all(copy, OPERATORS[operator]) is None


def test_what_cannot_be_compared_is_said(run, inputs, monkeypatch):
    model = load_model(inputs[0])
    with pytest.raises(UserError, match="no fusion operator 'blend'"):
        subset_members(run, model, ["blend"])
    with pytest.raises(UserError, match="come from a model and data"):
        subset_members(run, model, ["fisher"])
    monkeypatch.setattr(memory, "usable_bytes", lambda: 1000)
    with pytest.raises(UserError, match="the fused adapters of 3 subsets need"):
        subset_members(run, model, ["mean"])


def test_command_asks_the_subsets_and_shows_accuracy_by_number_of_seeds(run, monkeypatch, capsys):
    def evaluate(*words):
        monkeypatch.setattr(sys, "argv", ["lorafuse", "evaluate", str(run.path), *words])
        cli.main()

    evaluate("--limit", "2")
    before = (run.path / "table.md").read_text()
    evaluate("--limit", "2", "--subsets", "mean")
    shown = capsys.readouterr().out
    assert "By number of seeds" in shown
    [answers] = run.evaluations_path.glob("*/answers.jsonl")
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    subsets = [line["model"] for line in lines if line["kind"] == "subset"]
    assert sorted(set(subsets)) == ["mean(3+8)", "mean(5+3)", "mean(5+8)"]
    assert len(subsets) == 2 * 3 and len(lines) == 2 * (1 + 3 + 1 + 3)
    table = (run.path / "table.md").read_text()
    assert table.startswith(before.rstrip("\n"))  # the tested rows are as they were
    assert "| mean seed | 1 | 3 |" in table and "| mean | 2 | 3 |" in table
    assert "| mean | 3 | 1 |" in table
    assert "By number of seeds" in (run.path / "report.html").read_text()
    with pytest.raises(SystemExit, match="2"):
        evaluate("--limit", "3")
    assert "lorafuse evaluate --subsets completes them" in capsys.readouterr().err
