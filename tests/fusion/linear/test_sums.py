"""Task arithmetic, the truncated mean, and the mean of factors against PEFT."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from lorafuse_jax.fusion.linear.factor_mean import factor_mean
from lorafuse_jax.fusion.linear.svd import svd
from lorafuse_jax.fusion.linear.task_arithmetic import task_arithmetic
from lorafuse_jax.types import UserError
from tests.fusion.members import (
    assert_same,
    by_layer,
    dense,
    members_of,
    random_members,
    random_weights,
)
from tests.references import soups
from tests.references.seedlora import truncated_svd

FLOAT32 = 2e-5  # an SVD in single precision
MODULE = "layers/mlp/up_proj"
FIRST, SECOND = [[1, 2], [0, 4]], [[3, 0], [2, -2]]


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, [[4, 2], [2, 2]]), (0.5, [[2, 1], [1, 1]])])
def test_task_arithmetic_of_a_hand_worked_example_is_the_scaled_sum(factor, expected):
    fused = task_arithmetic(members_of(FIRST, SECOND), factor=factor)
    np.testing.assert_allclose(dense(fused)["layers/m"][0], expected, rtol=1e-6)


def test_task_arithmetic_equals_the_reference(rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = task_arithmetic(stacked, weights=weights, factor=0.4)
    reference = by_layer(stacked, lambda taus: soups.task_arithmetic(taus, weights, 0.4))
    assert_same(fused, reference, FLOAT32)


@pytest.mark.parametrize("rank", [None, 1, 4, 50])
def test_svd_is_the_best_approximation_of_the_mean(rank, rng):
    stacked, weights = random_members(rng), random_weights(rng)
    fused = svd(stacked, weights=weights, rank=rank)
    assert fused[MODULE].lora_a.shape[-1] == min(rank or 2, 6)
    best = by_layer(stacked, lambda taus: truncated_svd(soups.mean(taus, weights), rank or 2))
    assert_same(fused, best, FLOAT32)


def test_svd_to_no_rank_says_so(rng):
    with pytest.raises(UserError, match="rank = 0 is not possible: at least 1"):
        svd(random_members(rng), rank=0)


def test_factor_mean_equals_the_reference(rng):
    stacked, weights = random_members(rng), random_weights(rng)
    pair = stacked[MODULE]
    expected = [
        soups.factor_mean(
            [
                (np.float64(pair.lora_a[s, layer]), np.float64(pair.lora_b[s, layer]))
                for s in range(3)
            ],
            weights,
        )
        for layer in range(2)
    ]
    assert_same(factor_mean(stacked, weights=weights), {MODULE: np.stack(expected)}, FLOAT32)


class OneLinear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.m = torch.nn.Linear(9, 12, bias=False)


@pytest.fixture
def in_peft(rng):
    """Members as adapters of one linear layer in PEFT, and stacked."""
    stacked = random_members(rng, layers=1)
    config = LoraConfig(r=2, lora_alpha=2, target_modules=["m"])
    model = get_peft_model(OneLinear(), config, adapter_name="0")
    for name in "12":
        model.add_adapter(name, config)
    for member, name in enumerate("012"):
        pair = stacked[MODULE]
        layer = model.base_model.model.m
        layer.lora_A[name].weight.data = torch.tensor(np.array(pair.lora_a[member, 0].T))
        layer.lora_B[name].weight.data = torch.tensor(np.array(pair.lora_b[member, 0].T))
    return model, stacked


@pytest.mark.parametrize(
    ("kind", "fuse"),
    [
        ("linear", lambda s, w: factor_mean(s, weights=w, convention="peft")),
        ("svd", lambda s, w: svd(s, weights=w)),
    ],
)
def test_sum_equals_peft(kind, fuse, in_peft):
    model, stacked = in_peft
    weights = [0.5, 0.3, 0.2]
    model.base_model.add_weighted_adapter(list("012"), weights, "fused", combination_type=kind)
    theirs = model.base_model.model.m.get_delta_weight("fused").detach().numpy().T
    assert_same(fuse(stacked, weights), {MODULE: theirs[None]}, FLOAT32)
