"""LoRA+ (arXiv 2402.12354): B learns faster than A."""

from typing import Any

import jax
import optax

from lorafuse_jax.types import EMBEDDING

PAPER_RATIO = 16.0
"""The paper's default for the ratio of the two learning rates (section 6)."""


def lora_plus(ratio: float) -> optax.GradientTransformation:
    """Multiply the updates of every ``lora_b`` by ``ratio``; to be chained after the optimiser.

    With decoupled weight decay in the updates this is a group of parameters with ``ratio`` times
    the learning rate, as in the paper's implementation and in PEFT's ``create_loraplus_optimizer``.

    Departures: PEFT counts DoRA's magnitudes to B's group and gives both factors of an embedding a
    rate of their own (1e-6 by default); here all of these go with A. An embedding's B is what does
    not start at zero, and has no reason to learn faster.

    Args:
        ratio: lambda, B's learning rate over A's, above 0; 1 changes nothing.
    """

    def faster(path: tuple, update: Any) -> Any:
        is_b = getattr(path[-1], "name", None) == "lora_b"
        of_embedding = any(getattr(entry, "key", None) == EMBEDDING for entry in path)
        return update * ratio if is_b and not of_embedding else update

    return optax.stateless(
        lambda updates, params: jax.tree_util.tree_map_with_path(faster, updates)
    )
