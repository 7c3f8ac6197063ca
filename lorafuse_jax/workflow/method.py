"""How a run trains: what the seeds start from, how the loss sees it, what is written of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Array, Float

from lorafuse_jax.formats.peft import save_peft
from lorafuse_jax.formats.targets import last_parts
from lorafuse_jax.models.hub import Model
from lorafuse_jax.names import fan_in_fan_out, for_files
from lorafuse_jax.training.objective import LogProbs
from lorafuse_jax.types import Adapter, Params

Save = Callable[[Any, int, Path, Mapping[str, Any]], None]
"""``(trained, number, folder, provenance)``: write what one seed has become."""


@dataclass(frozen=True)
class Method:
    """A way to fine-tune.

    Attributes:
        base: the weights that the step reads.
        fresh: makes what is trained, with the seed axis first, as it is before the first step.
        scale: of each module's low-rank update, one a seed; None if there are none.
        log_probs: of one seed.
        save: writes one seed's.
        update: ``(trained, number)`` -> what a seed adds to the model, low-rank and with its scale;
            None where that is not low-rank.
    """

    base: Params
    fresh: Callable[[], Any]
    scale: dict[str, Float[Array, " S"]] | None
    log_probs: LogProbs
    save: Save
    update: Callable[[Any, int], Adapter] | None = None


def save_update(folder: Path, update: Adapter, model: Model, provenance: Mapping[str, Any]) -> None:
    """Write a low-rank update, which has the decoder's module paths, as a PEFT adapter."""
    adapter = for_files(update, model)
    save_peft(
        folder,
        adapter,
        base_model=str(model.path),
        provenance=dict(provenance),
        carried=where_it_belongs(adapter, model),
    )


def where_it_belongs(adapter: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """What PEFT wants to know of the base, for an adapter with Hugging Face's module paths."""
    return {"target_modules": last_parts(adapter), "fan_in_fan_out": fan_in_fan_out(model)}
