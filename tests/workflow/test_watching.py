"""The fused loss while training, patience, averages along the way, and where metrics go."""

import json
import shutil
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax import forward, load_adapter, load_model
from lorafuse_jax.adapter import to_delta
from lorafuse_jax.formats import read_provenance
from lorafuse_jax.lora import LoraRule, scaled
from lorafuse_jax.training import peak
from lorafuse_jax.training.trajectory import fresh_trajectory, keep
from lorafuse_jax.types import DenseDelta, LoraPair, UserError
from lorafuse_jax.workflow import trainer
from lorafuse_jax.workflow.inputs import load_inputs
from lorafuse_jax.workflow.loggers import check_loggers, open_loggers
from lorafuse_jax.workflow.method import Method
from lorafuse_jax.workflow.throughput import model_size
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig
from lorafuse_jax.workflow.trained import average_along
from tests.tiny import write_sums, write_tiny_model


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return write_tiny_model(folder / "model"), write_sums(folder / "sums")


@pytest.fixture(scope="module", autouse=True)
def short_measurement():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peak, "MEASURE_SECONDS", 0.01)
        yield


def config(inputs, **changes):
    model, data = inputs
    settings = {"model": str(model), "data": str(data), "seeds": (1, 2), "rank": 2}
    settings |= {"examples": 12, "examples_per_step": 2, "learning_rate": 0.02}
    return TrainConfig(**(settings | {"heldout_examples": 4, "fuse_every": 2} | changes))


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return train(config(inputs, average_last=1), out)


def dense_mean(adapters):
    """In NumPy, in float64."""
    dense = [{m: np.asarray(u.delta, np.float64) for m, u in to_delta(a).items()} for a in adapters]
    return {module: np.mean([one[module] for one in dense], axis=0) for module in dense[0]}


def test_fused_loss_is_that_of_the_mean_delta_on_examples_alone(inputs, run):
    model = load_model(inputs[0])
    _, task = load_inputs(config(inputs))
    mean = dense_mean([load_adapter(run.adapter_path(seed)) for seed in (1, 2)])
    fused = {module: DenseDelta(jnp.asarray(d, jnp.float32)) for module, d in mean.items()}
    losses = []
    for one in task.validation[:4]:
        tokens = np.concatenate([one.prompt, one.completion])
        logits = np.asarray(
            forward(model, model.params, fused, jnp.asarray(tokens)[None])[0], np.float64
        )
        for place in range(len(one.prompt) - 1, len(tokens) - 1):
            row = logits[place] - logits[place].max()
            losses.append(np.log(np.exp(row).sum()) - row[tokens[place + 1]])
    last = [line for line in run.metrics() if "fused" in line][-1]
    assert last["step"] == 6 and last["fused"] == "mean"
    assert last["heldout_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_fused_loss_stands_beside_the_members_at_every_evaluation(run):
    lines = [line for line in run.metrics() if "heldout_loss" in line]
    assert [(line["step"], line.get("seed", "mean")) for line in lines] == [
        (step, name) for step in (2, 4, 6) for name in (1, 2, "mean")
    ]


@pytest.mark.parametrize("operator", ["ties", "dare", "svd"])
def test_other_operators_are_watched_too(inputs, tmp_path, operator):
    done = train(config(inputs, fuse_operator=operator, examples=4), tmp_path / "run")
    fused = [line for line in done.metrics() if "fused" in line]
    assert [line["fused"] for line in fused] == [operator]
    assert np.isfinite(fused[0]["heldout_loss"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fuse_every": 0}, "--fuse-every must be at least 1"),
        ({"fuse_every": None, "patience": 2}, "say how often with --fuse-every"),
        ({"average_last": 4}, "there are only 3 evaluations in 6 steps"),
        ({"fuse_operator": "blend"}, "no fusion operator 'blend'"),
        ({"fuse_operator": "slerp", "seeds": (1, 2, 3)}, "slerp fuses 2 members at most"),
        ({"fuse_operator": "regmean"}, "cannot fuse while training"),
    ],
)
def test_what_cannot_be_watched_is_said_before_anything_is_written(
    inputs, tmp_path, changes, message
):
    with pytest.raises(UserError, match=message):
        train(config(inputs, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_patience_stops_and_a_repeat_knows_it(inputs, tmp_path, monkeypatch, capsys):
    losses = [3.0, 2.0, 2.5, 2.1, 1.0, 1.0]
    scripted = lambda state: losses[int(state.step[0]) - 1]  # noqa: E731
    monkeypatch.setattr(trainer, "fused_heldout_loss", lambda *a: scripted)
    settings, out = config(inputs, fuse_every=1, patience=2), tmp_path / "run"
    done = train(settings, out)
    said = "stopped after step 4 of 6: the fused loss has not fallen for 2 evaluations below 2.000"
    assert said in capsys.readouterr().out
    assert [line["step"] for line in done.metrics() if "fused" in line] == [1, 2, 3, 4]
    before = (done.adapter_path(1) / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(out / "adapters")  # as if it was killed before they were written
    train(settings, out)
    assert said in capsys.readouterr().out
    assert (done.adapter_path(1) / "adapter_model.safetensors").read_bytes() == before


def test_average_of_one_evaluation_is_the_last_adapter(run):
    for seed in (1, 2):
        average = load_adapter(run.fused_path(f"average-seed-{seed}"))
        last = load_adapter(run.adapter_path(seed))
        jax.tree.map(np.testing.assert_array_equal, to_delta(average), to_delta(last))
    provenance = read_provenance(run.fused_path("average-seed-1"))
    assert (provenance["operator"], provenance["seed"]) == ("mean of the last 1", 1)


def test_average_is_of_the_deltas_and_not_of_the_factors():
    rng = np.random.default_rng(0)
    shapes = ((2, 3, 5, 2), (2, 3, 2, 4))
    stacks = [{"m": LoraPair(*(rng.normal(size=s).astype("f") for s in shapes))} for _ in range(3)]
    trajectory = fresh_trajectory(stacks[0], 2)
    for stacked in stacks:
        trajectory = keep(trajectory, stacked)
    rule = LoraRule(targets="m", rank=2, alpha=8.0)
    method = Method({}, dict, None, print, print, lambda trained, _: scaled(trained, (rule,)))
    average, count = average_along(trajectory, 1, method)
    deltas = [np.float64(s["m"].lora_a[1]) @ np.float64(s["m"].lora_b[1]) for s in stacks[1:]]
    exact = 4 * np.mean(deltas, axis=0)
    found = np.asarray(to_delta(average)["m"].delta)
    assert count == 2 and average["m"].lora_a.shape[-1] == 4
    np.testing.assert_allclose(found, exact, atol=1e-5)
    of_factors = (
        4
        * np.mean([s["m"].lora_a[1] for s in stacks[1:]], axis=0)
        @ np.mean([s["m"].lora_b[1] for s in stacks[1:]], axis=0)
    )
    assert np.abs(of_factors - exact).max() > 0.1


def test_averages_of_a_resumed_run_are_those_of_its_trajectory(inputs, tmp_path, monkeypatch):
    """Over a checkpoint: the last three evaluations, the first of them before the stop."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    settings = config(inputs, average_last=3)
    done = train(settings, tmp_path / "run")
    whole = (done.fused_path("average-seed-1") / "adapter_model.safetensors").read_bytes()
    for part in ("adapters", "fused", "checkpoints/6"):
        shutil.rmtree(done.path / part)
    train(settings, done.path)
    again = (done.fused_path("average-seed-1") / "adapter_model.safetensors").read_bytes()
    assert again == whole


def test_speed_is_in_the_metrics(run):
    for line in run.metrics():
        if "seed" in line:
            assert line["tokens_per_s"] > 0 and 0 < line["peak_share"] < 1


def test_model_size_is_what_the_shapes_say(inputs, run):
    model = load_model(inputs[0])
    pair = load_adapter(run.adapter_path(1))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), pair)
    size = model_size(model, stacked)
    # Two layers of width 16, 4 heads and 2 key heads of 4, feed-forward 24; 97 tokens.
    layer = 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24
    factors = 2 * ((16 + 16) * 2 + (16 + 8) * 2 + (16 + 24) * 3)
    assert (size.projections, size.head) == (2 * layer, 97 * 16)
    assert (size.updates, size.attention, size.layers) == (2 * factors, 16, 2)
    assert (size.sliding_layers, size.window) == (0, None)


class Played:
    """Stands for wandb and trackio: remembers what was logged."""

    def __init__(self):
        self.started, self.logged, self.finished = [], [], False

    def init(self, **settings):
        self.started.append(settings)
        return self

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_logger_gets_every_step_and_every_name(inputs, tmp_path, monkeypatch, name):
    played = Played()
    monkeypatch.setitem(sys.modules, name, played)
    train(config(inputs), tmp_path / "run", log=(name,))
    assert played.started[0]["name"] == "run" and played.started[0]["resume"] == "allow"
    assert [step for step, _ in played.logged] == [1, 2, 3, 4, 5, 6]
    assert set(played.logged[0][1]) == {
        "train_loss/seed-1",
        "train_loss/seed-2",
        "speed/tokens",
        "speed/tokens_per_s",
        "speed/peak_share",
    }
    added = {"heldout_loss/seed-1", "heldout_loss/seed-2", "heldout_loss/fused-mean"}
    assert set(played.logged[1][1]) - set(played.logged[0][1]) == added
    assert played.finished


def test_tensorboard_files_hold_what_was_logged(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event  # noqa: PLC0415

    with open_loggers(("tensorboard",), tmp_path, 0) as log:
        log(1, {"train_loss/seed-1": 2.5})
        log(2, {"train_loss/seed-1": 1.5})
    (file,) = (tmp_path / "tensorboard").iterdir()
    found = []
    content = file.read_bytes()
    while content:  # length [8], its checksum [4], an event, its checksum [4]
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
        content = content[16 + length :]
    assert found == [(1, "train_loss/seed-1", 2.5), (2, "train_loss/seed-1", 1.5)]


def test_logger_whose_package_is_missing_is_said_before_training(inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match="pip install trackio"):
        train(config(inputs), tmp_path / "run", log=("trackio",))
    assert not (tmp_path / "run").exists()
    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace())
    check_loggers(("trackio",))


def test_what_is_logged_does_not_decide_over_the_run(inputs, run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", Played())
    train(config(inputs, average_last=1), run.path, log=("wandb",))
    assert "trained already" in capsys.readouterr().out
    assert "log" not in json.loads(run.config_path.read_text())
