"""One layer of the decoder (Linen): norms, projections, attention, MLP."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from lorafuse_jax.models.attention import attend_with_past
from lorafuse_jax.models.cache import LayerPast
from lorafuse_jax.models.config import Activation, DecoderConfig
from lorafuse_jax.models.fused_attention import Kind, attend_whole
from lorafuse_jax.models.quantized import project
from lorafuse_jax.models.rope import rotate

KEPT = "projection"
"""The name, for ``jax.checkpoint``'s policies, of what costs a product to compute again."""

keep = partial(checkpoint_name, name=KEPT)

ACTIVATIONS = {
    "silu": nn.silu,
    "gelu": partial(nn.gelu, approximate=False),
    "gelu_tanh": partial(nn.gelu, approximate=True),
    "relu": nn.relu,
}


class View(NamedTuple):
    """What a token of this call may look at, and where it stands.

    Attributes:
        visible: which of this call's tokens each sees.
        rotation: cosine and sine of the positions' angles; None without rotary positions.
        past: earlier tokens; None if there are none.
        segments: if ``visible`` is the earlier tokens of one's own segment, and no less: these.
    """

    visible: Bool[Array, "B T T"]
    rotation: tuple[Array, Array] | None
    past: LayerPast | None = None
    segments: Int[Array, "B T"] | None = None


def rms_norm(x: Array, scale: Array, eps: float, offset: float) -> Array:
    """Root-mean-square norm, computed in float32."""
    wide = x.astype(jnp.float32)
    normed = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    if offset:
        return (normed * (offset + scale.astype(jnp.float32))).astype(x.dtype)
    return normed.astype(x.dtype) * scale.astype(x.dtype)


def layer_norm(x: Array, scale: Array, bias: Array, eps: float) -> Array:
    """LayerNorm, computed in float32."""
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + eps)
    return (normed * scale.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)


def _gated(gate: Array, up: Array, activation: Activation) -> Array:
    return ACTIVATIONS[activation](gate) * up


class Norm(nn.Module):
    """RMSNorm or LayerNorm, as the configuration says."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Normalise the last axis and scale it."""
        config, width = self.config, x.shape[-1]
        centre = nn.initializers.constant(1 - config.norm_offset)
        scale = self.param("scale", centre, (width,))
        if config.norm == "layer":
            bias = self.param("bias", nn.initializers.zeros, (width,))
            return layer_norm(x, scale, bias, config.norm_eps)
        return rms_norm(x, scale, config.norm_eps, config.norm_offset)


class Projection(nn.Module):
    """A linear layer whose kernel may be quantised; this is what adapters attach to."""

    features: int
    use_bias: bool

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        """``x @ kernel + bias``."""
        if self.is_initializing():
            normal = nn.initializers.lecun_normal()
            kernel = self.param("kernel", normal, (x.shape[-1], self.features))
        else:
            kernel = self.get_variable("params", "kernel")
        y = project(x, kernel)
        if not self.use_bias:
            return y
        return y + self.param("bias", nn.initializers.zeros, (self.features,))


class Attention(nn.Module):
    """Grouped-query self-attention."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], view: View
    ) -> tuple[Float[Array, "B T D"], tuple[Array, Array]]:
        """Attend; gives also this call's keys and values [B, K, T, H]."""
        config = self.config
        queries, keys, values = self._project(x)
        if config.qk_norm:
            queries = Norm(config, name="q_norm")(queries)
            keys = Norm(config, name="k_norm")(keys)
        if view.rotation is not None:
            queries, keys = rotate(queries, view.rotation), rotate(keys, view.rotation)
        keys, values = keys.swapaxes(1, 2), values.swapaxes(1, 2)
        queries, keys, values = (keep(part) for part in (queries, keys, values))
        scale = config.query_scale or config.head_dim**-0.5
        cap = config.attention_softcap
        if view.past is None:
            kind = Kind(scale, cap)
            mixed = attend_whole(queries, keys, values, view.visible, view.segments, kind)
        else:
            mixed = attend_with_past(queries, keys, values, view.visible, view.past, scale, cap)
        out = Projection(config.model_dim, use_bias=config.out_bias, name="o_proj")
        return out(keep(mixed.reshape(*x.shape[:2], -1))), (keys, values)

    def _project(self, x: Array) -> tuple[Array, Array, Array]:
        """Queries [B, T, N, H], keys and values [B, T, K, H]."""
        config = self.config
        heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
        dense = partial(Projection, use_bias=config.qkv_bias)
        if config.fused_qkv:
            joined = dense(sum(heads) * config.head_dim, name="qkv_proj")(x)
            ends = [config.head_dim * heads[0], config.head_dim * (heads[0] + heads[1])]
            parts = jnp.split(joined, ends, axis=-1)
        else:
            parts = [
                dense(count * config.head_dim, name=f"{name}_proj")(x)
                for name, count in zip("qkv", heads, strict=True)
            ]
        queries, keys, values = (
            part.reshape(*x.shape[:2], count, config.head_dim)
            for part, count in zip(parts, heads, strict=True)
        )
        return queries, keys, values


class Mlp(nn.Module):
    """Feed-forward layer, gated (GLU variants, arXiv 2002.05202) or plain."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """``down(act(gate(x)) * up(x))`` or ``down(act(up(x)))``."""
        config = self.config
        dense = partial(Projection, use_bias=config.mlp_bias)
        if config.gated_mlp:
            gate = keep(dense(config.ffn_dim, name="gate_proj")(x))
            up = keep(dense(config.ffn_dim, name="up_proj")(x))
            inner = _gated(gate, up, config.activation)
        else:
            up = keep(dense(config.ffn_dim, name="up_proj")(x))
            inner = ACTIVATIONS[config.activation](up)
        return dense(config.model_dim, name="down_proj")(inner)


class Block(nn.Module):
    """One layer."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], view: View
    ) -> tuple[Float[Array, "B T D"], tuple[Array, Array]]:
        """Attention and MLP, each on a normed residual stream; names are Hugging Face's."""
        norm = lambda name: Norm(self.config, name=name)  # noqa: E731
        attention, mlp = Attention(self.config, name="self_attn"), Mlp(self.config, name="mlp")
        mixed, kept = attention(norm("input_layernorm")(x), view)
        if self.config.sandwich_norms:
            x = keep(x + norm("post_attention_layernorm")(mixed))
            inner = mlp(norm("pre_feedforward_layernorm")(x))
            return x + norm("post_feedforward_layernorm")(inner), kept
        x = keep(x + mixed)
        return x + mlp(norm("post_attention_layernorm")(x)), kept
