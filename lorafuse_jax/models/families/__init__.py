"""One file a model family; this table is how a ``config.json`` finds its own.

To add a family, write a file with ``MODEL_TYPE``; ``config_from_hf``, which makes a
``DecoderConfig`` of a ``config.json`` and refuses every key that it does not handle; and
``WEIGHTS``, which says where each tensor goes. Name it in the table, and in
``tests/models/families.py``, whose tests compare it with transformers'. What the decoder cannot do
yet becomes a field of ``DecoderConfig``.
"""

from types import ModuleType

from lorafuse_jax.models.families import gemma2, gemma3, gpt2, llama, mistral, qwen2, qwen3

FAMILIES: dict[str, ModuleType] = {
    family.MODEL_TYPE: family for family in (gemma2, gemma3, gpt2, llama, mistral, qwen2, qwen3)
}
"""``model_type`` -> module with ``config_from_hf`` and ``WEIGHTS``."""
