"""The family-neutral description of a decoder, made by a family file from a ``config.json``."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LinearScaling:
    """All rotary frequencies divided by ``factor`` (positions stretched linearly)."""

    factor: float


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
    """Llama 3.1's scaling: low frequencies divided by ``factor``, high ones kept, ramp between."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context_length: int


@dataclass(frozen=True, kw_only=True)
class Rope:
    """Rotary positions (RoFormer, arXiv 2104.09864) in Hugging Face's half-split layout."""

    theta: float
    scaling: LinearScaling | Llama3Scaling | None = None


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Shapes and switches of a pre-norm decoder; hashable, so that jit may close over it.

    Attributes:
        vocab_size: V, rows of the embedding.
        model_dim: D.
        num_layers: L.
        num_heads: N query heads.
        num_kv_heads: K key/value heads; divides N (K = N is MHA, K = 1 MQA, else GQA).
        head_dim: H, not necessarily D / N.
        ffn_dim: F.
        context_length: longest sequence the model was made for, in tokens.
        norm_eps: epsilon of RMSNorm.
        rope: rotary positions.
        attention_bias: q, k, v and o projections have biases.
        mlp_bias: gate, up and down projections have biases.
        tie_embeddings: the output head is the embedding, transposed.
    """

    vocab_size: int
    model_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_dim: int
    context_length: int
    norm_eps: float
    rope: Rope
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_embeddings: bool = False
