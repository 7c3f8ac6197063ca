"""What PEFT calls the two factors of a module's update.

``base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`` [R, I] and ``.lora_B.weight``
[O, R]; of an embedding [V, D] ``.lora_embedding_A`` [R, V] and ``.lora_embedding_B`` [D, R]. So it
is the module's name that tells us what to write.
"""

from pathlib import Path
from typing import Literal

from lorafuse_jax.formats.layers import LayerKey, parse_hf_name
from lorafuse_jax.formats.targets import EMBEDDING_NAMES, is_embedding
from lorafuse_jax.types import UserError

Factor = Literal["lora_A", "lora_B"]

PREFIX = "base_model.model."
MAGNITUDE = ".lora_magnitude_vector"

_HALVES: tuple[Factor, Factor] = ("lora_A", "lora_B")
_OTHER_TENSORS = {
    "lora_magnitude_vector": "it is DoRA's, of the columns of the base weights",
    ".lora_B.bias": "a bias was trained too",
}


def tensor_name(module: str, half: Factor) -> str:
    """The name of a factor.

    Args:
        module: as Hugging Face has it.
        half: which factor.
    """
    return PREFIX + module + _ending(half, is_embedding(module))


def parse_tensor_name(name: str, path: Path) -> tuple[LayerKey, Factor]:
    """The inverse of ``tensor_name``.

    Raises:
        UserError: it is the name of something else, or of an embedding that would not be written
            as one again.
    """
    for half in _HALVES:
        for of_embedding in (True, False):
            ending = _ending(half, of_embedding)
            if not (name.startswith(PREFIX) and name.endswith(ending)):
                continue
            module = name[len(PREFIX) : -len(ending)]
            if is_embedding(module) != of_embedding:
                kind = "an embedding" if of_embedding else "a linear layer"
                raise UserError(
                    f"{path}: {name!r} belongs to {kind}; embeddings that can be read are called "
                    f"{', '.join(EMBEDDING_NAMES)}, and nothing else is"
                )
            if (where := parse_hf_name(module)) is not None:
                return where, half
    expected = f"expected names like {PREFIX}model.layers.0.self_attn.q_proj.lora_A.weight"
    for part, reason in _OTHER_TENSORS.items():
        if part in name:
            expected = f"{reason}, which a low-rank update of linear layers cannot hold"
    if name.endswith(".weight") and ".lora_" not in name:
        expected = (
            "it is a whole weight, as PEFT saves embeddings when the vocabulary was resized; train "
            "without, or merge that adapter with PEFT"
        )
    raise UserError(f"{path}: cannot use tensor {name!r}; {expected}")


def _ending(half: Factor, of_embedding: bool) -> str:
    if of_embedding:
        return f".lora_embedding_{half[-1]}"
    return f".{half}.weight"
