"""Runs of a few steps, in which something goes wrong."""

from lorafuse_jax.workflow.train_config import TrainConfig

STEPS = 6


def config(inputs, **changes):
    model, data = inputs
    settings = {"model": str(model), "data": str(data), "seeds": (1, 2, 3), "rank": 2}
    settings |= {"dropout": 0.1, "examples": 2 * STEPS, "examples_per_step": 2}
    return TrainConfig(**(settings | {"heldout_examples": 4, "fuse_every": 2} | changes))
