"""The family-neutral description of a decoder, made by a family file from a ``config.json``."""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]


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
class FrequencyFactors:
    """Each of the H/2 rotary frequencies divided by a factor of its own, as GGUF files say it."""

    factors: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Rope:
    """Rotary positions (RoFormer, arXiv 2104.09864) in Hugging Face's half-split layout."""

    theta: float
    scaling: LinearScaling | Llama3Scaling | FrequencyFactors | None = None


@dataclass(frozen=True, kw_only=True)
class Sliding:
    """Layers whose tokens see only the last ``window`` tokens, themselves included.

    Attributes:
        window: in tokens.
        layers: which layers slide, one flag a layer.
        rope: rotary positions of these layers, where they differ from those of the others.
    """

    window: int
    layers: tuple[bool, ...]
    rope: Rope | None = None


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Shapes and switches of a pre-norm decoder; hashable, so that jit may close over it.

    The defaults are a Llama's.

    Attributes:
        vocab_size: V, rows of the embedding.
        model_dim: D.
        num_layers: L.
        num_heads: N query heads.
        num_kv_heads: K key/value heads; divides N (K = N is MHA, K = 1 MQA, else GQA).
        head_dim: H, not necessarily D / N.
        ffn_dim: F.
        context_length: longest sequence the model was made for, in tokens.
        norm: RMSNorm, or LayerNorm with a bias.
        norm_eps: epsilon of the norms.
        norm_offset: what is added to a norm's scale; Gemma's are stored around zero and have 1.
        sandwich_norms: attention and MLP outputs are normed too, before they are added.
        qk_norm: queries and keys are normed, each head for itself.
        rope: rotary positions; None is a learned embedding of absolute positions.
        sliding: which layers see a window only; None is none.
        query_scale: what scores are multiplied by; None is 1/sqrt(H).
        attention_softcap: scores s become ``cap * tanh(s / cap)``.
        logit_softcap: the same for the output logits.
        fused_qkv: one projection makes queries, keys and values.
        qkv_bias: q, k and v projections have biases.
        out_bias: the attention's output projection has a bias.
        mlp_bias: the MLP's projections have biases.
        gated_mlp: ``down(act(gate(x)) * up(x))`` rather than ``down(act(up(x)))``.
        activation: of the MLP.
        embedding_scale: what token embeddings are multiplied by.
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
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float
    norm_offset: float = 0.0
    sandwich_norms: bool = False
    qk_norm: bool = False
    rope: Rope | None
    sliding: Sliding | None = None
    query_scale: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    fused_qkv: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    gated_mlp: bool = True
    activation: Activation = "silu"
    embedding_scale: float = 1.0
    tie_embeddings: bool = False

    @property
    def units(self) -> dict[str, int]:
        """Into how many whole parts attention's features can be divided, for ``parallel.rules``."""
        kv = 1 if self.fused_qkv else self.num_kv_heads
        return {"heads": self.num_heads, "kv_heads": kv}
