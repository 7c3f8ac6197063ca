"""Training and asking over a quantised base, by the same commands."""

import json

import jax
import numpy as np
import pytest

from lorafuse_jax.models.quantized import is_kernel
from lorafuse_jax.workflow.compared import load_evaluated
from lorafuse_jax.workflow.evaluate import archives_of, evaluate
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.tiny import write_sums, write_tiny_model


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_seeds_learn_over_a_quantised_base_and_answer_over_it(tmp_path, quantization):
    model, data = write_tiny_model(tmp_path / "model"), write_sums(tmp_path / "sums")
    settings = {"seeds": (1, 2), "rank": 4, "learning_rate": 0.02, "examples_per_step": 4}
    config = TrainConfig(
        model=str(model), data=str(data), quantization=quantization, examples=40, **settings
    )
    run = train(config, tmp_path / "run")
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    for seed in (1, 2):
        losses = [line["train_loss"] for line in lines if line.get("seed") == seed]
        assert len(losses) == 10
        assert np.mean(losses[-3:]) < 0.7 * losses[0]
    base, _ = load_evaluated(run)
    kernels = [leaf for leaf in jax.tree.leaves(base.params, is_leaf=is_kernel) if is_kernel(leaf)]
    assert len(kernels) == 7
    evaluate(run, [], limit=2)
    assert set(archives_of(run)[0].scores().models) == {"base", "seed-1", "seed-2"}
