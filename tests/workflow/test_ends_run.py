"""A whole run that adapts the embedding and the output head of a model that has them tied."""

import json
import sys

import jax
import numpy as np
import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

import lorafuse_jax as lf
from lorafuse_jax import cli
from lorafuse_jax.evaluation.predictions import read
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.training.flops import StepWork, needed_flops
from lorafuse_jax.types import ENDS, DenseDelta
from lorafuse_jax.workflow.export import export
from lorafuse_jax.workflow.throughput import model_size
from tests.tiny import write_sums, write_tiny_model
from tests.torch_twin import tokens, torch_logits

SEEDS = (1, 2)
FUSED = {"mean": (), "svd": ("--set", "rank=2"), "seedlora": ()}
TOLERANCE = 2e-4
"""Of logits of up to 10: two orders of summation, and sums of float32 deltas."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return write_tiny_model(folder / "model"), write_sums(folder / "sums", test=2)


def command(*words):
    """The command line, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lorafuse", *map(str, words)])
        cli.main()


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    model, data = inputs
    out = tmp_path_factory.mktemp("runs") / "ends"
    targets = ("--targets", ".*/q_proj", "embed_tokens", "lm_head")
    size = ("--rank", 2, "--examples", 16, "--examples-per-step", 4, "--heldout-examples", 4)
    words = (*targets, *size, "--dropout", 0.1, "--learning-rate", 1e-2, "--seeds", *SEEDS)
    command("train", "--model", model, "--data", data, *words, "--out", out)
    for operator, words in FUSED.items():
        command("fuse", out, "--operator", operator, *words)
    return RunFolder(out)


def test_peft_and_an_exported_model_compute_what_we_do(inputs, run, tmp_path):
    model = lf.load_model(inputs[0])
    plain = forward(model, None)
    folders = [run.adapter_path(SEEDS[0]), *(run.fused_path(name) for name in FUSED)]
    for folder in folders:
        adapter = lf.load_adapter(folder)
        ends = [adapter[end] for end in ("embed_tokens", "lm_head")]
        assert [end[0].shape[:2] for end in ends] == [(1, 97), (1, 16)]
        assert all(float(lf.norm({"": end})) > 0.01 for end in ends)
        ours = forward(model, adapter)
        assert np.abs(ours - plain).max() > 100 * TOLERANCE
        if not isinstance(ends[0], DenseDelta):
            torch_model = AutoModelForCausalLM.from_pretrained(inputs[0]).eval()
            theirs = torch_logits(PeftModel.from_pretrained(torch_model, folder).eval())
            np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
        out = export(inputs[0], folder, tmp_path / folder.name)
        merged = torch_logits(AutoModelForCausalLM.from_pretrained(out).eval())
        np.testing.assert_allclose(ours, merged, atol=TOLERANCE)
        again = lf.load_model(out)
        assert not again.config.tie_embeddings
        np.testing.assert_allclose(ours, forward(again, None), atol=TOLERANCE)


def forward(model, adapter):
    return np.asarray(lf.forward(model, model.params, adapter, tokens()[None]))


def test_members_are_evaluated_in_one_batch_and_inspected(run, tmp_path):
    command("evaluate", run.path, "--rows", 12)
    names = {"base", "seed-1", "seed-2", *FUSED}
    answers = read(run.predictions_path)
    scores = {one.model: one.logprob for one in answers if one.id == answers[0].id}
    assert scores.keys() == names and len(set(scores.values())) == len(names)
    assert np.isfinite(list(scores.values())).all()
    command("inspect", run.path, "--operators", "mean", "--out", tmp_path / "seen")
    modules = json.loads((tmp_path / "seen" / "inspect.json").read_text())["modules"]
    assert {"embed_tokens", "lm_head"} < modules.keys()


def test_arithmetic_of_the_ends_is_counted_where_it_is_done(inputs):
    """Every token is multiplied with the embedding's B, tokens with a loss with the head's both."""
    model = lf.load_model(inputs[0])
    rules = [lf.LoraRule(rank=5), *(lf.LoraRule(rank=5, targets=end) for end in ENDS)]
    fresh = [
        jax.eval_shape(lambda some=some: lf.init_adapter(jax.random.key(0), model.params, some))
        for some in (rules[:1], rules)
    ]
    stacked = [jax.tree.map(lambda leaf: np.zeros((3, *leaf.shape)), one) for one in fresh]
    layers, ends = (model_size(model, one) for one in stacked)
    assert ends.updates - layers.updates == 5 * 16
    assert (layers.head_updates, ends.head_updates) == (0, 5 * (16 + 97))
    assert ends.projections == layers.projections
    one_token = StepWork(tokens=1, losses=1, pairs=0)
    more = needed_flops(ends, one_token) - needed_flops(layers, one_token)
    assert more == 3 * 2 * (5 * 16 + 5 * (16 + 97))
