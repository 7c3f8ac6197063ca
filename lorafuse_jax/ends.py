"""Updates of the model's two ends, the embedding and the output head, which are in no layer.

Their modules have L = 1, so that all that works on adapters works on them too. The embedding's
update is a table ``A B`` [V, D]: a token's row of A is looked up, and B, which all tokens share,
makes [D] of it. The head's is that of any projection; with a tied head it is the head's alone, as
is the embedding's: what is tied is the base's table.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from lorafuse_jax.models.head import HeadHook
from lorafuse_jax.types import EMBEDDING, ENDS, HEAD, DenseDelta, LoraPair, Params

Value = TypeVar("Value")


def end_modules(params: Params) -> dict[str, tuple[int, int, int]]:
    """Module path -> (1, I, O) of both ends, whether they are tied or not."""
    vocabulary, width = params[EMBEDDING]["embedding"].shape
    return {EMBEDDING: (1, vocabulary, width), HEAD: (1, width, vocabulary)}


def layers_alone(adapter: Mapping[str, Value]) -> dict[str, Value]:
    """What is in the layers, over which the model scans."""
    return {module: update for module, update in adapter.items() if module not in ENDS}


def init_table(key: Key[Array, ""], vocabulary: int, width: int, rank: int) -> LoraPair:
    """A fresh update of the embedding, as PEFT and loralib start it: A zero, B standard normal."""
    return LoraPair(jnp.zeros((1, vocabulary, rank)), jax.random.normal(key, (1, rank, width)))


def embedding_hook(
    update: LoraPair | DenseDelta | None,
) -> Callable[[Int[Array, "B T"]], Float[Array, "B T D"]] | None:
    """What adds the update's rows to those of the base; None if there is no update.

    Departures: nothing is dropped, as in PEFT, whose embeddings have a dropout rate that is not
    used. PEFT gives the row of the padding token no gradient; here no padding has a loss, and that
    token learns where it stands in a text.
    """
    if update is None:
        return None
    return lambda tokens: look_up(jax.tree.map(lambda leaf: leaf[0], update), tokens)


def look_up(update: LoraPair | DenseDelta, tokens: Int[Array, "*B"]) -> Float[Array, "*B D"]:
    """The update's rows of these tokens; leaves without the axis L."""
    if isinstance(update, DenseDelta):
        return update.delta[tokens]
    return update.lora_a[tokens] @ update.lora_b


def head_hook(
    update: LoraPair | DenseDelta | None, drop: Callable[[Array], Array] = lambda x: x
) -> HeadHook | None:
    """What makes the head's projection add its update; None if there is none.

    Args:
        update: leaves [1, ...], with the scale in them.
        drop: applied to the update's input.
    """
    if update is None:
        return None
    if isinstance(update, DenseDelta):
        return HeadHook(lambda hidden: (drop(hidden),), (update.delta[0],))

    def features(hidden: Array) -> tuple[Array]:
        return (drop(hidden) @ update.lora_a[0].astype(hidden.dtype),)

    return HeadHook(features, (update.lora_b[0],))
