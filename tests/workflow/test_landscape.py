"""The landscape of tiny runs: its losses are those of the adapters it speaks of, however made."""

import json
import shutil
import sys
from itertools import combinations
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax import OPERATORS, cli, forward, load_model
from lorafuse_jax.adapted import batch_log_probs
from lorafuse_jax.adapter import combine, stack
from lorafuse_jax.data.batches import full_batches
from lorafuse_jax.landscape.points import SCALES, line_places
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow import landscape_losses
from lorafuse_jax.workflow.inputs import load_inputs
from lorafuse_jax.workflow.landscape import LandscapeRequest, landscape
from lorafuse_jax.workflow.members import load_update
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.tiny import write_sums, write_tiny_model

SEEDS, EXAMPLES = (5, 3, 8), 6
ASKED = LandscapeRequest(operators=("mean", "scaled_mean", "ties"), at_once=4)
ROUNDING = 1e-5
"""Relative, of losses in float32 along another way."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return write_tiny_model(folder / "model"), write_sums(folder / "sums")


def config_of(inputs, **changes) -> TrainConfig:
    model, data = inputs
    settings = {"model": str(model), "data": str(data), "seeds": SEEDS, "examples": 8}
    settings |= {"examples_per_step": 4, "heldout_examples": EXAMPLES, "learning_rate": 0.02}
    return TrainConfig(**(settings | changes))


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    return train(config_of(inputs, rank=(1, 2, 2)), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def found(run):
    return landscape(run, ASKED)


@pytest.fixture(scope="module")
def loss_of(inputs):
    """The held-out loss of any adapter, as a number."""
    model, task = load_inputs(config_of(inputs))
    [packed] = full_batches(task.validation[:EXAMPLES], 64, EXAMPLES)
    batch = jax.tree.map(jnp.asarray, packed)

    @jax.jit
    def loss(adapter):
        log_probs = batch_log_probs(model.config, model.params, adapter, batch, rules=())
        return -(log_probs * batch.loss_weight).sum() / batch.loss_weight.sum()

    return loss


def heldout(run) -> list[float]:
    """What training found of its last state."""
    last = {line["seed"]: line["heldout_loss"] for line in run.metrics() if "heldout_loss" in line}
    return [last[seed] for seed in run.config()["seeds"]]


def members(run, inputs):
    model = load_model(inputs[0])
    return [load_update(run.adapter_path(seed), model) for seed in run.config()["seeds"]]


def test_ends_of_the_lines_are_the_seeds_as_training_measured_them(run, found):
    expected = dict(zip(SEEDS, heldout(run), strict=True))
    places = line_places()
    assert [one.value for one in found.singles] == pytest.approx(heldout(run), rel=ROUNDING)
    assert [line.seeds for line in found.lines] == list(combinations(SEEDS, 2))
    for line in found.lines:
        ends = [line.losses[places.index(t)] for t in (0.0, 1.0)]
        assert ends == pytest.approx([expected[seed] for seed in line.seeds], rel=ROUNDING)


def test_points_are_the_deltas_weighted_sums(run, found, inputs, loss_of):
    stacked = stack(members(run, inputs))
    for t, loss in zip(line_places(), found.lines[1].losses, strict=True):
        expected = loss_of(combine(stacked, jnp.array([1 - t, 0, t])))
        assert loss == pytest.approx(float(expected), rel=ROUNDING)
    for s, loss in zip(SCALES, found.scales[-1].losses, strict=True):
        expected = loss_of(combine(stacked, jnp.full(3, s / 3)))
        assert loss == pytest.approx(float(expected), rel=ROUNDING)
    assert np.ptp(found.lines[1].losses) > 100 * ROUNDING


def test_corners_and_sides_of_the_triangle_are_on_the_lines(found):
    triangle, places = dict(found.triangle), line_places()
    for line in found.lines:
        first, second = (found.corners.index(seed) for seed in line.seeds)
        for t, loss in zip(places, line.losses, strict=True):
            point = [0.0] * 3
            point[first], point[second] = 1 - t, t
            if 0 <= t <= 1:
                assert triangle[tuple(point)] == loss


@pytest.mark.parametrize("operator", ASKED.operators)
def test_every_subset_scores_as_its_direct_fusion(run, found, inputs, loss_of, operator):
    each, fuse = members(run, inputs), jax.jit(OPERATORS[operator])
    assert [len(one.losses) for one in found.sizes[operator]] == [3, 3, 1]
    for one in found.sizes[operator][1:]:
        subsets = combinations(range(3), one.size)
        fused = [fuse(stack([each[k] for k in some])) for some in subsets]
        expected = [float(loss_of(adapter)) for adapter in fused]
        assert sorted(one.losses) == pytest.approx(sorted(expected), rel=ROUNDING)


def test_losses_of_examples_are_each_examples_own(run, found, inputs):
    """Of one point, example by example in rows of their own, in float64 from the logits."""
    model = load_model(inputs[0])
    _, task = load_inputs(config_of(inputs))
    kept = json.loads((run.path / "landscape" / "losses.json").read_text())
    adapter = members(run, inputs)[0]
    for one, loss in zip(task.validation, kept["losses"]["1*5"], strict=False):
        logits = forward(model, model.params, adapter, jnp.asarray(one.tokens)[None])[0]
        logits = np.asarray(logits, np.float64)[len(one.prompt) - 1 : -1]
        highest = logits.max(-1, keepdims=True)
        normal = np.log(np.exp(logits - highest).sum(-1)) + highest[:, 0]
        chosen = logits[np.arange(len(one.completion)), one.completion]
        assert loss == pytest.approx((normal - chosen).sum(), rel=ROUNDING)
    assert len(kept["losses"]["1*5"]) == EXAMPLES


def test_dense_updates_have_landscapes_too(inputs, tmp_path, loss_of):
    run = train(config_of(inputs, seeds=(1, 2), method="dense"), tmp_path / "run")
    found = landscape(run, LandscapeRequest(operators=("mean",)))
    assert [one.value for one in found.singles] == pytest.approx(heldout(run), rel=ROUNDING)
    middle = float(loss_of(combine(stack(members(run, inputs)), jnp.full(2, 0.5))))
    assert found.sizes["mean"][-1].losses == pytest.approx([middle], rel=ROUNDING)
    assert found.triangle == []


def test_stopped_work_goes_on_and_finished_work_is_not_redone(run, found, monkeypatch):
    path = run.path / "landscape" / "losses.json"
    whole = json.loads(path.read_text())
    path.unlink()
    asked = LandscapeRequest(operators=("scaled_mean",), at_once=12)
    add, calls = landscape_losses.LossFile.add, []

    def dies(self, names, losses):
        calls.append(list(names))
        if len(calls) == 3:
            raise KeyboardInterrupt
        add(self, names, losses)

    monkeypatch.setattr(landscape_losses.LossFile, "add", dies)
    with pytest.raises(KeyboardInterrupt):
        landscape(run, asked)
    assert list(json.loads(path.read_text())["losses"]) == [*calls[0], *calls[1]]
    done = {name for some in calls[:2] for name in some}
    resumed = landscape(run, asked)
    again = [name for some in calls[3:] for name in some]
    assert not done & set(again) and len(again) == len(set(again))
    for name, losses in json.loads(path.read_text())["losses"].items():
        np.testing.assert_allclose(whole["losses"][name], losses, rtol=ROUNDING)
    monkeypatch.setattr(landscape_losses.LossFile, "add", lambda *_: pytest.fail("measured again"))
    assert landscape(run, asked) == resumed


def test_points_at_once_shrink_to_the_memory(run, found, inputs, monkeypatch):
    model, stacked = load_model(inputs[0]), stack(members(run, inputs))
    _, task = load_inputs(config_of(inputs))
    points = {
        str(place): landscape_losses.constant(weights, stacked)
        for place, weights in enumerate(np.eye(3).tolist())
    }
    losses = landscape_losses.PointLosses(model, stacked, task.validation[:EXAMPLES], None)
    compute, needed = landscape_losses._needed, []
    record = lambda *a: needed.append(compute(*a)) or needed[-1]  # noqa: E731
    monkeypatch.setattr(landscape_losses, "_needed", record)

    def chunks(usable):
        told = []
        monkeypatch.setattr(
            landscape_losses, "memory", SimpleNamespace(usable_bytes=lambda: usable)
        )
        losses.mixtures(points, lambda names, own: told.append((list(names), own)))
        return told

    [(names, together)] = chunks(None)
    assert names == ["0", "1", "2"]
    apart = chunks(needed[0] // 2)
    assert [name for names, _ in apart for name in names] == names and len(apart) > 1
    np.testing.assert_allclose(np.concatenate([own for _, own in apart]), together, rtol=ROUNDING)
    with pytest.raises(UserError, match="1 points at once need"):
        chunks(10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operators": ("blend",)}, "no fusion operator 'blend'"),
        ({"operators": ("fisher",)}, "come from a model and data"),
        ({"simplex": (5, 3, 4)}, "name three different seeds of the run, of 5, 3, 8"),
        ({"examples": 1}, "--examples must be at least 2"),
        ({"subsets": 0}, "must be at least 1"),
        ({"examples": 4}, "holds losses with another examples"),
    ],
)
def test_what_cannot_be_shown_is_said(run, found, changes, message):
    with pytest.raises(UserError, match=message):
        landscape(run, LandscapeRequest(**changes))


def test_runs_without_a_landscape_are_refused(run, tmp_path):
    described = run.config()
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "copy"))
    for changes, message in (
        ({"seeds": [5]}, "seed 5 is alone"),
        ({"data_fingerprint": "other"}, "was trained on other data"),
    ):
        copy.config_path.write_text(json.dumps(described | changes))
        with pytest.raises(UserError, match=message):
            landscape(copy, LandscapeRequest())
    copy.config_path.write_text(json.dumps(described))
    (copy.adapter_path(5) / "config.json").write_text("{}")  # a checkpoint, of --method full
    with pytest.raises(UserError, match="its seeds are whole models"):
        landscape(copy, LandscapeRequest())


def test_command_shows_tables_and_draws(run, monkeypatch, capsys):
    words = ["landscape", str(run.path), "--operators", "mean", "slerp", "--simplex", "8", "3", "5"]
    monkeypatch.setattr(sys, "argv", ["lorafuse", *words, "--subsets", "2"])
    cli.main()
    shown = capsys.readouterr().out
    for text in ("lines between 2 of 3 pairs, drawn", "barrier", "slerp", "highest barrier"):
        assert text in shown
    folder = run.path / "landscape"
    assert "| operator | seeds | subsets |" in (folder / "landscape.md").read_text()
    written = json.loads((folder / "landscape.json").read_text())
    assert [one["size"] for one in written["sizes"]["slerp"]] == [1, 2]
    assert written["corners"] == [8, 3, 5]
    assert (folder / "landscape.png").read_bytes().startswith(b"\x89PNG")
