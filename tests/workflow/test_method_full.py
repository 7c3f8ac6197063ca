"""Full fine-tuning: gradients of all parameters against torch, and checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapted import forward, parameter_log_probs
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.models.weights import checkpoint_tensors
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.method_full import full_method
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.torch_twin import batch, make_twin, tokens, torch_logits, torch_loss


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return make_twin(tmp_path_factory.mktemp("twin") / "model")


def config_of(twin) -> TrainConfig:
    return TrainConfig(model=twin.folder, data="unused", seeds=(1, 2), method="full")


def test_gradient_of_every_parameter_equals_torchs(twin):
    model, some = twin.ours, batch()

    def loss(params):
        each = parameter_log_probs(model.config, params, model.params, some)
        return -(each * some.loss_weight).sum()

    value, grads = jax.value_and_grad(loss)(model.params)
    theirs = twin.theirs()
    total = torch_loss(theirs)
    total.backward()
    np.testing.assert_allclose(value, total.item(), rtol=1e-5)
    expected = {name: weight.grad.numpy() for name, weight in theirs.named_parameters()}
    ours = dict(checkpoint_tensors(grads, model.family.WEIGHTS))
    assert ours.keys() == expected.keys()
    for name, grad in expected.items():
        assert np.abs(grad).max() > 0
        np.testing.assert_allclose(ours[name], grad, atol=1e-4 * np.abs(grad).max())


def test_checkpoint_comes_back_bitwise_and_loads_in_transformers(twin, tmp_path):
    method = full_method(config_of(twin), twin.ours)
    trained = jax.tree.map(lambda leaf: leaf[1] * 1.1, method.fresh())
    method.save(trained, 1, tmp_path / "seed", {"seed": 2})
    back = load_model(tmp_path / "seed", dtype=jnp.float32)
    jax.tree.map(np.testing.assert_array_equal, back.params, trained)
    ours = forward(back, back.params, None, tokens()[None])
    theirs = torch_logits(twin._replace(folder=str(tmp_path / "seed")).theirs())
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert back.tokenizer.get_vocab() == twin.ours.tokenizer.get_vocab()


def test_parameters_are_computed_with_in_the_dtype_of_the_base(twin):
    model, some = twin.ours, batch()
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), model.params)
    text = jax.jit(lambda trained: parameter_log_probs(model.config, trained, half, some)).lower(
        model.params
    )
    assert "bf16" in text.as_text()
    grads = jax.grad(lambda trained: parameter_log_probs(model.config, trained, half, some).sum())(
        model.params
    )
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 4}, "--rank does not go with --method full"),
        ({"targets": ".*up_proj"}, "--targets does not go with --method full"),
        ({"quantization": "nf4"}, "--quantization does not go with --method full"),
        ({"method": "dense", "lora_plus": 16.0}, "--lora-plus does not go with --method dense"),
        ({"method": "dense", "init": "pissa"}, "--init does not go with --method dense"),
    ],
)
def test_settings_of_other_methods_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        TrainConfig(**{"model": "m", "data": "d", "method": "full", **changes})
