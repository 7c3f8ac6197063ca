"""LoRA+ (arXiv 2402.12354): B learns faster than A."""

from typing import Any

import jax
import optax

PAPER_RATIO = 16.0
"""The paper's default for the ratio of the two learning rates (section 6)."""


def lora_plus(ratio: float) -> optax.GradientTransformation:
    """Multiply the updates of every ``lora_b`` by ``ratio``; to be chained after the optimiser.

    With decoupled weight decay in the updates this is a group of parameters with ``ratio`` times
    the learning rate, as in the paper's implementation and in PEFT's ``create_loraplus_optimizer``.

    Departures: PEFT counts DoRA's magnitudes to B's group and gives embeddings a rate of their own;
    here both go with A.

    Args:
        ratio: lambda, B's learning rate over A's, above 0; 1 changes nothing.
    """

    def faster(path: tuple, update: Any) -> Any:
        return update * ratio if getattr(path[-1], "name", None) == "lora_b" else update

    return optax.stateless(
        lambda updates, params: jax.tree_util.tree_map_with_path(faster, updates)
    )
