"""The one decoder: pre-norm blocks with rotary grouped-query attention and a gated MLP (Linen).

Linen serves as a naming device: one ``Block`` is written, its parameters are stacked on axis L, and
``hidden_states`` scans it with ``jax.lax.scan``. The decoder knows nothing of adapters: whoever
wants to change what a projection does passes a ``LayerHook``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lorafuse_jax.models.attention import attend, rope_frequencies, rotate
from lorafuse_jax.models.cache import Cache
from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.types import Params


class LayerHook(NamedTuple):
    """A change to the projections of every layer, made from outside.

    Attributes:
        per_layer: a pytree with leaves [L, ...], scanned along with the layers.
        interceptor: from one layer's slice of it, a ``flax.linen.intercept_methods`` interceptor.
    """

    per_layer: Any
    interceptor: Callable[[Any], Callable]


class LayerCache(NamedTuple):
    """The cache of all layers, which one is meant, and the slot of this call's first token.

    The whole cache goes through each layer, because XLA updates one slot of a carried array in
    place but copies arrays that a scan takes in and gives out layer by layer.
    """

    keys: Float[Array, "L B K C H"]
    values: Float[Array, "L B K C H"]
    layer: Int[Array, ""]
    start: Int[Array, ""]

    def extend(self, keys: Array, values: Array) -> tuple[Array, Array, "LayerCache"]:
        """Write new keys and values [B, K, T, H]; gives this layer's [B, K, C, H] and the cache."""
        at = (self.layer, 0, 0, self.start, 0)
        all_keys = jax.lax.dynamic_update_slice(self.keys, keys[None].astype(self.keys.dtype), at)
        all_values = jax.lax.dynamic_update_slice(
            self.values, values[None].astype(self.values.dtype), at
        )
        pick = partial(jax.lax.dynamic_index_in_dim, index=self.layer, axis=0, keepdims=False)
        cache = LayerCache(all_keys, all_values, self.layer, self.start)
        return pick(all_keys), pick(all_values), cache


# Element-wise work is done again in a backward pass: that is cheaper than to store its
# intermediates for every layer and read them back.
@partial(jax.checkpoint, prevent_cse=False, static_argnums=2)
def _rms_norm(x: Array, scale: Array, eps: float) -> Array:
    wide = x.astype(jnp.float32)
    rms = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return (wide * rms).astype(x.dtype) * scale.astype(x.dtype)


@partial(jax.checkpoint, prevent_cse=False)
def _gated(gate: Array, up: Array) -> Array:
    return nn.silu(gate) * up


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32."""

    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Normalise the last axis and scale it."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        return _rms_norm(x, scale, self.eps)


class Attention(nn.Module):
    """Grouped-query self-attention."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "B T"],
        visible: Bool[Array, "B T C"],
        past: LayerCache | None,
    ) -> tuple[Float[Array, "B T D"], LayerCache | None]:
        """Attend to this call's tokens, or to a cache that they are first written to."""
        config = self.config
        dense = lambda name, width: nn.Dense(width, use_bias=config.attention_bias, name=name)  # noqa: E731
        split = lambda y, heads: y.reshape(*y.shape[:2], heads, config.head_dim)  # noqa: E731
        queries = split(dense("q_proj", config.num_heads * config.head_dim)(x), config.num_heads)
        keys = split(dense("k_proj", config.num_kv_heads * config.head_dim)(x), config.num_kv_heads)
        values = split(
            dense("v_proj", config.num_kv_heads * config.head_dim)(x), config.num_kv_heads
        )
        frequencies = rope_frequencies(config.rope, config.head_dim)
        queries, keys = (rotate(y, positions, frequencies) for y in (queries, keys))
        keys, values = keys.swapaxes(1, 2), values.swapaxes(1, 2)
        if past is not None:
            keys, values, past = past.extend(keys, values)
        mixed = attend(queries, keys, values, visible)
        return dense("o_proj", config.model_dim)(mixed.reshape(*x.shape[:2], -1)), past


class Mlp(nn.Module):
    """SiLU-gated feed-forward layer (SwiGLU, arXiv 2002.05202)."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """``down(silu(gate(x)) * up(x))``."""
        config = self.config
        gate = nn.Dense(config.ffn_dim, use_bias=config.mlp_bias, name="gate_proj")(x)
        up = nn.Dense(config.ffn_dim, use_bias=config.mlp_bias, name="up_proj")(x)
        return nn.Dense(config.model_dim, use_bias=config.mlp_bias, name="down_proj")(
            _gated(gate, up)
        )


class Block(nn.Module):
    """One layer."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "B T"],
        visible: Bool[Array, "B T C"],
        past: LayerCache | None = None,
    ) -> tuple[Float[Array, "B T D"], LayerCache | None]:
        """Attention and MLP, each on a normed residual stream."""
        eps = self.config.norm_eps
        normed = RMSNorm(eps, name="input_layernorm")(x)
        mixed, past = Attention(self.config, name="self_attn")(normed, positions, visible, past)
        x = x + mixed
        normed = RMSNorm(eps, name="post_attention_layernorm")(x)
        return x + Mlp(self.config, name="mlp")(normed), past


def init_params(config: DecoderConfig, key: Array) -> Params:
    """Random parameters of the right tree; ``jax.eval_shape`` of it is the tree's specification."""
    embed_key, layer_key, head_key = jax.random.split(key, 3)
    tokens = jnp.zeros((1, 1), jnp.int32)
    x = jnp.zeros((1, 1, config.model_dim))
    visible = jnp.ones((1, 1, 1), bool)
    one_layer = lambda key: Block(config).init(key, x, tokens, visible)["params"]  # noqa: E731
    normal = nn.initializers.normal(0.02)
    params: Params = {
        "embed_tokens": {"embedding": normal(embed_key, (config.vocab_size, config.model_dim))},
        "layers": jax.vmap(one_layer)(jax.random.split(layer_key, config.num_layers)),
        "norm": {"scale": jnp.ones(config.model_dim)},
    }
    if not config.tie_embeddings:
        params["lm_head"] = {"kernel": normal(head_key, (config.model_dim, config.vocab_size))}
    return params


def hidden_states(
    config: DecoderConfig,
    params: Params,
    tokens: Int[Array, "B T"],
    *,
    positions: Int[Array, "B T"] | None = None,
    segments: Int[Array, "B T"] | None = None,
    hook: LayerHook | None = None,
    unroll: int = 1,
) -> Float[Array, "B T D"]:
    """The final, normed hidden states of whole sequences.

    Args:
        config: what ``params`` was made for.
        params: base weights.
        tokens: token ids in [0, V).
        positions: rotary positions; by default 0, 1, 2, ... in every row.
        segments: which example each token belongs to, 0 for padding: a token sees the earlier
            tokens of its own segment alone, so several examples may share a row. By default one.
        hook: a change to the projections.
        unroll: layers per iteration of the scan.
    """
    rows, time = tokens.shape
    if positions is None:
        positions = jnp.broadcast_to(jnp.arange(time), (rows, time))
    if segments is None:
        segments = jnp.ones((rows, time), jnp.int32)
    causal = jnp.tril(jnp.ones((time, time), bool))
    visible = causal & (segments[:, :, None] == segments[:, None, :])

    def layer(x, scanned):
        x, _ = _run_block(config, hook, scanned, x, positions, visible, None)
        return x, None

    x = params["embed_tokens"]["embedding"][tokens]
    x, _ = jax.lax.scan(layer, x, (params["layers"], hook and hook.per_layer), unroll=unroll)
    return _final_norm(config, params, x)


def cached_hidden_states(
    config: DecoderConfig,
    params: Params,
    tokens: Int[Array, "B T"],
    present: Bool[Array, "B T"],
    cache: Cache,
    *,
    hook: LayerHook | None = None,
) -> tuple[Float[Array, "B T D"], Cache]:
    """Continue cached sequences by T tokens: prefill with T > 1, decode with T = 1.

    Args:
        config: what ``params`` was made for.
        params: base weights.
        tokens: the next tokens, written to slots ``cache.length`` and on.
        present: False for padding; a row's position counts its present tokens only.
        cache: what came before.
        hook: a change to the projections.

    Returns:
        The normed hidden states of these tokens, and the cache with them added.
    """
    time, slots = tokens.shape[1], cache.filled.shape[1]
    filled = jax.lax.dynamic_update_slice_in_dim(cache.filled, present, cache.length, axis=1)
    before = jnp.sum(cache.filled, axis=1, keepdims=True)
    positions = jnp.maximum(before + jnp.cumsum(present, axis=1) - 1, 0)
    written = cache.length + jnp.arange(time)
    visible = filled[:, None, :] & (jnp.arange(slots)[None, None, :] <= written[None, :, None])

    def layer(carry, scanned):
        x, keys, values = carry
        *weights, index = scanned
        past = LayerCache(keys, values, index, cache.length)
        x, past = _run_block(config, hook, weights, x, positions, visible, past)
        return (x, past.keys, past.values), None

    x = params["embed_tokens"]["embedding"][tokens]
    scanned = (params["layers"], hook and hook.per_layer, jnp.arange(config.num_layers))
    (x, keys, values), _ = jax.lax.scan(layer, (x, cache.keys, cache.values), scanned)
    return _final_norm(config, params, x), Cache(keys, values, filled, cache.length + time)


def _run_block(config, hook, scanned, x, positions, visible, past) -> Any:
    weights, per_layer = scanned
    run = lambda: Block(config).apply({"params": weights}, x, positions, visible, past)  # noqa: E731
    if hook is None:
        return run()
    with nn.intercept_methods(hook.interceptor(per_layer)):
        return run()


def _final_norm(config: DecoderConfig, params: Params, x: Array) -> Array:
    return _rms_norm(x, params["norm"]["scale"], config.norm_eps)
