"""LoRA+: against torch's AdamW with PEFT's groups of parameters."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer

from lorafuse_jax.training.lora_plus import PAPER_RATIO, lora_plus
from lorafuse_jax.types import ENDS, DenseDelta, LoraPair

RATE, DECAY = 1e-2, 0.1


def peft_layer():
    torch.manual_seed(0)
    model = get_peft_model(
        torch.nn.Sequential(torch.nn.Linear(5, 4, bias=False)),
        LoraConfig(target_modules=["0"], r=2),
    )
    layer = model.base_model.model[0]
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
    return model, layer.lora_A["default"].weight, layer.lora_B["default"].weight


def test_lora_plus_equals_pefts_optimizer_over_several_steps():
    model, lora_a, lora_b = peft_layer()
    theirs = create_loraplus_optimizer(
        model,
        torch.optim.AdamW,
        lr=RATE,
        loraplus_lr_ratio=PAPER_RATIO,
        loraplus_weight_decay=DECAY,
    )
    tx = optax.chain(optax.adamw(RATE, weight_decay=DECAY), lora_plus(PAPER_RATIO))
    copy = lambda weight: jnp.asarray(weight.detach().numpy().T.copy())  # noqa: E731
    ours = {"m": LoraPair(copy(lora_a), copy(lora_b))}
    state = tx.init(ours)
    rng = np.random.default_rng(0)
    for _ in range(5):
        grads = {"m": LoraPair(*(jnp.asarray(rng.normal(size=w.shape)) for w in ours["m"]))}
        for weight, grad in zip((lora_a, lora_b), grads["m"], strict=True):
            weight.grad = torch.tensor(np.asarray(grad).T)
        theirs.step()
        updates, state = tx.update(grads, state, ours)
        ours = optax.apply_updates(ours, updates)
    np.testing.assert_allclose(ours["m"].lora_a, lora_a.detach().numpy().T, atol=1e-6)
    np.testing.assert_allclose(ours["m"].lora_b, lora_b.detach().numpy().T, atol=1e-5)


@pytest.mark.parametrize("ratio", [1.0, 4.0])
def test_only_lora_b_learns_faster(ratio):
    updates = {"m": LoraPair(jnp.ones((2, 1)), jnp.ones((1, 2))), "n": DenseDelta(jnp.ones((2, 2)))}
    faster, _ = lora_plus(ratio).update(updates, lora_plus(ratio).init(updates))
    assert (faster["m"].lora_a == 1).all() and (faster["n"].delta == 1).all()
    assert (faster["m"].lora_b == ratio).all()


def test_embeddings_b_does_not_start_at_zero_and_learns_as_a_does():
    updates = {end: LoraPair(jnp.ones((2, 1)), jnp.ones((1, 2))) for end in ENDS}
    faster, _ = lora_plus(8.0).update(updates, lora_plus(8.0).init(updates))
    assert (faster["embed_tokens"].lora_b == 1).all() and (faster["lm_head"].lora_b == 8).all()
