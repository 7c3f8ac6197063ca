"""Every way to fine-tune: a seed in the stack is the seed alone, and the loss falls."""

from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.inputs import load_inputs
from lorafuse_jax.workflow.train_config import TrainConfig
from lorafuse_jax.workflow.trainer import make_trainer
from tests.tiny import write_sums, write_tiny_model

SEEDS = (1, 2)
STEPS = 8
ALONE_TOLERANCE = 2e-5
"""See tests/training/test_step.py; relative to the largest entry of a leaf."""

VARIANTS: dict[str, dict[str, Any]] = {
    "per_seed": {"rank": (2, 5), "alpha": (4.0, 16.0), "learning_rate": (1e-2, 3e-3)},
    "lora_plus": {"lora_plus": 16.0, "learning_rate": 1e-3},
    "ends": {"targets": ("all-linear", "embed_tokens", "lm_head"), "rank": (2, 5)},
    "dora": {"method": "dora", "rank": (2, 5)},
    "pissa": {"init": "pissa", "dropout": 0.0},
    "olora": {"init": "olora", "dropout": 0.0, "learning_rate": 1e-3},
    "dense": {"method": "dense", "rank": 8, "learning_rate": 1e-3, "dropout": 0.0},
    "full": {"method": "full", "rank": 8, "learning_rate": 1e-3, "dropout": 0.0},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return write_tiny_model(folder / "model"), write_sums(folder / "sums")


def config_of(inputs, **changes) -> TrainConfig:
    model, data = inputs
    settings: dict[str, Any] = {"model": str(model), "data": str(data), "seeds": SEEDS}
    settings |= {"rank": 3, "learning_rate": 1e-2, "examples": 4 * STEPS, "examples_per_step": 4}
    return TrainConfig(**(settings | {"heldout_examples": 4, "dropout": 0.1} | changes))


def alone(changes: dict[str, Any], number: int) -> dict[str, Any]:
    """The settings of one seed of several."""
    return {
        name: value[number] if isinstance(value, tuple) and name != "targets" else value
        for name, value in changes.items()
    } | {"seeds": SEEDS[number : number + 1]}


def trained(config: TrainConfig):
    """The state after steps on one batch, the losses [steps, S], and the trainer."""
    trainer = make_trainer(config, *load_inputs(config))
    state, losses = trainer.fresh_state(), []
    batch = trainer.loader.batch(0)
    for _ in range(trainer.plan.num_steps):
        state, loss = trainer.step_fn(state, trainer.method.base, batch, trainer.member())
        losses.append(np.asarray(loss))
    return state, np.array(losses), trainer


@pytest.mark.parametrize("name", VARIANTS)
def test_seed_in_the_stack_equals_the_seed_alone_and_learns(inputs, name):
    changes = VARIANTS[name]
    state, losses, _ = trained(config_of(inputs, **changes))
    assert (losses[-1] < 0.95 * losses[0]).all()
    for number in range(len(SEEDS)):
        own, own_losses, _ = trained(config_of(inputs, **alone(changes, number)))
        np.testing.assert_allclose(losses[:, number], own_losses[:, 0], rtol=5e-5)
        for stacked, single in zip(
            jax.tree.leaves(state.adapter), jax.tree.leaves(own.adapter), strict=True
        ):
            mine = np.asarray(stacked[number])[tuple(map(slice, single.shape[1:]))]
            bound = ALONE_TOLERANCE * max(1, np.abs(single).max())
            np.testing.assert_allclose(mine, single[0], atol=bound)


def test_padding_of_a_smaller_rank_stays_bitwise_zero_and_is_not_written(inputs, tmp_path):
    changes = VARIANTS["per_seed"] | {"lora_plus": 4.0}
    state, _, trainer = trained(config_of(inputs, **changes))
    for pair in state.adapter.values():
        assert pair.lora_a.shape[-1] == pair.lora_b.shape[-2] == 5
        for padding in (pair.lora_a[0, ..., 2:], pair.lora_b[0, :, 2:]):
            np.testing.assert_array_equal(np.asarray(padding).view(np.uint32) << 1, 0)
        assert np.abs(pair.lora_a[0, ..., :2]).min() > 0 and np.abs(pair.lora_b[1]).min() > 0
    for number, rank in enumerate((2, 5)):
        folder = tmp_path / str(number)
        one = jax.tree.map(lambda leaf, number=number: leaf[number], state.adapter)
        trainer.method.save(one, number, folder, {})
        tensors = load_file(folder / "adapter_model.safetensors")
        assert {t.shape[0] for name, t in tensors.items() if "lora_A" in name} == {rank}
        scale = (4.0, 16.0)[number] / rank
        name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
        expected = scale * np.asarray(one["layers/mlp/up_proj"].lora_b[1, :rank].T)
        np.testing.assert_allclose(tensors[name], expected, rtol=1e-6)


def test_embedding_learns_the_tokens_that_it_sees_and_the_head_learns(inputs):
    state, _, trainer = trained(config_of(inputs, **VARIANTS["ends"]))
    fresh = trainer.fresh_state().adapter
    batch = trainer.loader.batch(0)
    table, head = state.adapter["embed_tokens"], state.adapter["lm_head"]
    for number, rank in enumerate((2, 5)):
        seen = np.unique(np.asarray(batch.tokens[number])[np.asarray(batch.segments[number]) > 0])
        rows = np.asarray(table.lora_a[number, 0]).any(axis=-1)
        assert set(np.flatnonzero(rows)) <= set(seen) and rows.sum() > len(seen) // 2
        assert (np.asarray(head.lora_b[number, 0, :rank]) != 0).all()
        for end in ("embed_tokens", "lm_head"):
            moved = [
                np.abs(np.asarray(now[number] - then[number])).max()
                for now, then in zip(state.adapter[end], fresh[end], strict=True)
            ]
            assert min(moved) > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": (2, 3, 4)}, "--rank has 3 values for 2 seeds"),
        ({"learning_rate": (1e-3, 0.0)}, "learning rate must be above 0"),
        ({"alpha": ()}, "--alpha has 0 values"),
        ({"rank": (2, 0)}, "rank 0 is not possible"),
        ({"lora_plus": 0.0}, "--lora-plus must be above 0"),
        ({"subset": 0.0}, "--subset is a share in"),
        ({"init": "pissa", "rank": (2, 3)}, "they need one rank and one alpha"),
        ({"init": "pissa", "quantization": "int8"}, "leave out --quantization or --init"),
        ({"init": "olora", "targets": ("lm_head",)}, "lm_head does not go with --init olora"),
        ({"method": "dora", "targets": "embed_tokens"}, "tokens does not go with --method dora"),
        ({"targets": ()}, "no targets"),
    ],
)
def test_settings_that_cannot_be_are_refused(inputs, changes, message):
    with pytest.raises(UserError, match=message):
        config = config_of(inputs, **changes)
        make_trainer(config, *load_inputs(config))


def test_what_saves_memory_changes_no_result(inputs):
    """One seed at a time, in halves, and nearly everything computed again."""
    plain = {"dropout": 0.0, "examples": 4 * STEPS}
    _, losses, _ = trained(config_of(inputs, **plain))
    saving = {"seeds_per_pass": 1, "micro_batches": 2, "remat": "layers"}
    _, same, trainer = trained(config_of(inputs, **plain, **saving))
    assert trainer.loader.batch(0).tokens.shape[:2] == (2, 2)
    np.testing.assert_allclose(losses, same, rtol=5e-5)
