"""Whole runs of every method: train, fuse, evaluate; what is written is what was trained."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lorafuse_jax.adapted import batch_log_probs, parameter_log_probs
from lorafuse_jax.data.batches import full_batches
from lorafuse_jax.formats import is_adapter, load_adapter, read_provenance
from lorafuse_jax.formats.dense import is_dense
from lorafuse_jax.formats.dora import is_dora
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.types import DenseDelta, LoraPair, UserError
from lorafuse_jax.workflow.compared import load_evaluated
from lorafuse_jax.workflow.evaluate import archives_of, evaluate
from lorafuse_jax.workflow.export import export
from lorafuse_jax.workflow.fuse import FuseRequest, fuse_run
from lorafuse_jax.workflow.harness import HarnessRequest, evaluate_with_harness
from lorafuse_jax.workflow.inputs import load_inputs
from lorafuse_jax.workflow.members import load_update, members_of_run
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig
from lorafuse_jax.workflow.trainer import make_trainer
from tests.tiny import write_sums, write_tiny_model
from tests.torch_twin import batch, tokens, torch_logits

SEEDS = (1, 2)
METHODS: dict[str, dict[str, Any]] = {
    "pissa": {"init": "pissa", "rank": 2, "learning_rate": 1e-2},
    "dora": {"method": "dora", "rank": 2, "learning_rate": 1e-2},
    "dense": {"method": "dense"},
    "full": {"method": "full"},
}
TOLERANCE = 2e-4
"""Of log-probabilities of about -10, computed along another way."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return write_tiny_model(folder / "model"), write_sums(folder / "sums")


def config_of(inputs, **changes) -> TrainConfig:
    model, data = inputs
    settings = {"model": str(model), "data": str(data), "seeds": SEEDS, "examples": 8}
    return TrainConfig(**(settings | {"examples_per_step": 4, "heldout_examples": 4} | changes))


@pytest.fixture(scope="module")
def runs(inputs, tmp_path_factory):
    """Name -> the finished run."""
    folder = tmp_path_factory.mktemp("runs")
    return {name: train(config_of(inputs, **set_), folder / name) for name, set_ in METHODS.items()}


def log_probs_of(model, path):
    """Of what was written, read again as evaluation reads it."""
    if not is_adapter(path):
        own = load_model(path)
        return parameter_log_probs(own.config, own.params, own.params, batch())
    update = load_update(path, model)
    return batch_log_probs(model.config, model.params, update, batch(), rules=())


@pytest.mark.parametrize("name", METHODS)
def test_what_is_written_scores_as_what_was_trained(inputs, runs, name):
    """The same steps again, and the training's own log-probabilities of its last state."""
    config = config_of(inputs, **METHODS[name])
    trainer = make_trainer(config, *load_inputs(config))
    state, member = trainer.fresh_state(), trainer.member()
    for step in range(trainer.plan.num_steps):
        state, _ = trainer.step_fn(state, trainer.method.base, trainer.loader.batch(step), member)
    model = load_model(inputs[0])
    base = log_probs_of_base(model)
    for number, seed in enumerate(SEEDS):
        trained, own = jax.tree.map(lambda leaf, k=number: leaf[k], (state.adapter, member))
        own = own._replace(dropout_key=None)
        expected = trainer.method.log_probs(trained, trainer.method.base, batch(), own)
        found = log_probs_of(model, runs[name].adapter_path(seed))
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
        assert np.abs(expected - base).max() > 100 * TOLERANCE


@pytest.mark.parametrize("changes", [{"rank": (1, 3), "alpha": (4.0, 2.0)}, {"init": "pissa"}])
def test_fused_while_training_and_averages_are_of_updates_of_the_original_base(
    inputs, tmp_path, changes
):
    """One average of one evaluation is the seed; the fused loss is that of the seeds' mean."""
    settings = {"rank": 2, "learning_rate": 1e-2, "fuse_every": 1, "average_last": 1}
    config = config_of(inputs, **(settings | changes))
    run = train(config, tmp_path / "run")
    model, task = load_inputs(config)
    seeds = [load_update(run.adapter_path(seed), model) for seed in SEEDS]
    for seed, update in zip(SEEDS, seeds, strict=True):
        average = load_update(run.fused_path(f"average-seed-{seed}"), model)
        for module, pair in average.items():
            np.testing.assert_allclose(dense(pair), dense(update[module]), atol=1e-6)
    mean = {
        module: DenseDelta(jnp.mean(jnp.stack([dense(u[module]) for u in seeds]), axis=0))
        for module in seeds[0]
    }
    rows = jax.tree.map(jnp.asarray, full_batches(task.validation[:4], 64, 2))
    sums = [batch_log_probs(model.config, model.params, mean, some, rules=()) for some in rows]
    total = -sum((one * some.loss_weight).sum() for one, some in zip(sums, rows, strict=True))
    expected = total / sum(some.loss_weight.sum() for some in rows)
    [*_, last] = [line for line in run.metrics() if "fused" in line]
    np.testing.assert_allclose(last["heldout_loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("method", ["dora", "dense", "full"])
def test_fusing_while_training_is_for_low_rank_updates(inputs, method):
    with pytest.raises(UserError, match=f"--fuse-every does not go with --method {method}"):
        config_of(inputs, method=method, fuse_every=1)


def log_probs_of_base(model):
    return parameter_log_probs(model.config, model.params, model.params, batch())


@pytest.mark.parametrize(
    ("name", "is_of_kind"), [("pissa", is_adapter), ("dora", is_dora), ("dense", is_dense)]
)
def test_seeds_fuse_and_all_are_evaluated(inputs, runs, name, is_of_kind):
    run = runs[name]
    assert all(is_of_kind(run.adapter_path(seed)) for seed in SEEDS)
    fuse_run(run, FuseRequest(operator="mean"), run.fused_path("mean"))
    fuse_run(run, FuseRequest(operator="svd", settings=("rank=3",)), run.fused_path("svd"))
    fuse_run(run, FuseRequest(operator="ties"), run.fused_path("ties"))
    _, members = load_evaluated(run)
    by_name = {member.name: member.adapter for member in members}
    for module, fused in by_name["mean"].items():
        each = [dense(by_name[f"seed-{seed}"][module]) for seed in SEEDS]
        np.testing.assert_allclose(dense(fused), np.mean(each, axis=0), atol=1e-6)
    assert is_dense(run.fused_path("mean")) == (name != "pissa")
    assert isinstance(by_name["svd"][module], LoraPair)
    assert read_provenance(run.fused_path("mean"))["operator"] == "mean"
    evaluate(run, [f"{inputs[1]}/test"], limit=2)
    assert archives_of(run)[0].scores().primary.shape == (1 + len(SEEDS) + 3, 2)


def dense(update) -> np.ndarray:
    return np.asarray(
        update.lora_a @ update.lora_b if isinstance(update, LoraPair) else update.delta
    )


def test_whole_models_are_evaluated_and_their_fusion_refused(inputs, runs):
    run = runs["full"]
    evaluate(run, [f"{inputs[1]}/test"], limit=2)
    assert archives_of(run)[0].scores().primary.shape == (3, 2)
    with pytest.raises(UserError, match="its seeds are whole models"):
        members_of_run(run)
    with pytest.raises(UserError, match="lm-eval themselves"):
        evaluate_with_harness(run, HarnessRequest(tasks=("arc_easy",)))


def test_dora_seed_loads_in_peft_and_is_refused_outside_its_run(inputs, runs, tmp_path):
    seed = runs["dora"].adapter_path(SEEDS[0])
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(inputs[0]), seed)
    model = load_model(inputs[0])
    expected = log_probs_of(model, seed)
    from_peft = torch_logits(loaded)[0]
    shifted = from_peft[6:-1] - from_peft[6:-1].max(-1, keepdims=True)
    scores = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    picked = scores[np.arange(12), np.asarray(tokens())[7:]]
    np.testing.assert_allclose(np.asarray(expected)[:12], picked, atol=TOLERANCE)
    with pytest.raises(UserError, match="within the run that trained it"):
        load_adapter(seed)
    with pytest.raises(UserError, match="within the run that trained it"):
        export(inputs[0], seed, tmp_path / "merged")
