"""How fast a step was: real tokens a second, and the share of the machine's matrix peak."""

from typing import Any

import jax

from lorafuse_jax.ends import layers_alone
from lorafuse_jax.lora import adaptable_modules
from lorafuse_jax.models.hub import Model
from lorafuse_jax.parallel import hosts
from lorafuse_jax.training.flops import ModelSize, count_work, needed_flops
from lorafuse_jax.training.peak import matmul_peak
from lorafuse_jax.types import EMBEDDING, HEAD


def model_size(model: Model, stacked: Any) -> ModelSize:
    """What the model and its seeds' adapters take of arithmetic."""
    config = model.config
    seeds = jax.tree.leaves(stacked)[0].shape[0]
    sliding = sum(config.sliding.layers) if config.sliding else 0
    shapes = adaptable_modules(model.params).values()
    projections = sum(layers * fan_in * fan_out for layers, fan_in, fan_out in shapes)
    head = config.vocab_size * config.model_dim
    if "layers" in stacked:  # all parameters are trained: all products have three directions
        projections, updates, head, head_updates = 0, projections, head * 3 // 2, 0
    else:
        entries = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree)) // seeds  # noqa: E731
        table = stacked.get(EMBEDDING)
        updates = entries(layers_alone(stacked)) + entries(table and table.lora_b)
        head_updates = entries(stacked.get(HEAD))
    return ModelSize(
        projections=projections,
        head=head,
        updates=updates,
        head_updates=head_updates,
        attention=config.num_heads * config.head_dim,
        layers=config.num_layers - sliding,
        sliding_layers=sliding,
        window=config.sliding.window if config.sliding else None,
    )


class Throughput:
    """Of the steps of one run; measures the machine's peak when it is made, within a second."""

    def __init__(self, model: Model, stacked: Any) -> None:
        self._size = model_size(model, stacked)
        self._peak = matmul_peak() * len(jax.devices())

    def of(self, batch: Any, seconds: float) -> dict[str, float]:
        """``tokens`` and ``tokens_per_s`` over all seeds, and ``peak_share``."""
        work = count_work(hosts.fetch(batch), self._size.window)
        share = needed_flops(self._size, work) / (seconds * self._peak)
        speed = {"tokens_per_s": work.tokens / seconds, "peak_share": share}
        return {"tokens": float(work.tokens)} | speed
