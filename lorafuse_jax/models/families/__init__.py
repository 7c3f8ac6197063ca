"""One file a model family; this table is how a ``config.json`` finds its own."""

from types import ModuleType

from lorafuse_jax.models.families import llama

FAMILIES: dict[str, ModuleType] = {llama.MODEL_TYPE: llama}
"""``model_type`` -> module with ``config_from_hf`` and ``WEIGHTS``."""
