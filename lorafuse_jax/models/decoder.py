"""The one decoder, for whole sequences and for the continuation of cached ones.

Linen serves as a naming device: one ``Block`` is written, its parameters are stacked on axis L, and
a ``jax.lax.scan`` runs over them, so that compile time does not grow with depth. What differs from
layer to layer (a sliding window) is picked inside the scan by a flag. The decoder knows nothing of
adapters: whoever wants to change what a projection does passes a ``LayerHook``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lorafuse_jax.models.block import KEPT, Block, View, layer_norm, rms_norm
from lorafuse_jax.models.cache import KeyValues, LayerPast, Past
from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.rope import rotation
from lorafuse_jax.parallel.inside import gathered, whole_width
from lorafuse_jax.types import Params

Remat = Literal["nothing", "projections", "layers"]
"""What a backward pass computes again.

``projections``: what lies between the products: norms, activations, rotations, attention weights.
On CPU that is as fast as storing it (the store is written and read back), with a third less memory.
``layers``: all of a layer but its input: least memory, a forward pass more. ``nothing``: nothing.
"""

POLICIES = {
    "projections": jax.checkpoint_policies.save_only_these_names(KEPT),
    "layers": jax.checkpoint_policies.nothing_saveable,
}


class LayerHook(NamedTuple):
    """A change to the embedding and to the projections of every layer, made from outside.

    Attributes:
        per_layer: a pytree with leaves [L, ...], scanned along with the layers.
        interceptor: from one layer's slice of it, a ``flax.linen.intercept_methods`` interceptor.
        embedding: from tokens [B, T], what is added to their rows of the table [B, T, D], before
            the family's ``embedding_scale``; None adds nothing.
    """

    per_layer: Any
    interceptor: Callable[[Any], Callable]
    embedding: Callable[[Array], Array] | None = None


def init_params(config: DecoderConfig, key: Array) -> Params:
    """Random parameters of the right tree; ``jax.eval_shape`` of it is the tree's specification."""
    embed_key, place_key, layer_key, head_key = jax.random.split(key, 4)
    x = jnp.zeros((1, 1, config.model_dim))
    turn = (jnp.ones((1, 1, 1, config.head_dim // 2)),) * 2
    view = View(jnp.ones((1, 1, 1), bool), turn if config.rope else None)
    one_layer = lambda key: Block(config).init(key, x, view)["params"]  # noqa: E731
    normal = nn.initializers.normal(0.02)
    norm = {"scale": jnp.full(config.model_dim, 1 - config.norm_offset)}
    if config.norm == "layer":
        norm["bias"] = jnp.zeros(config.model_dim)
    params: Params = {
        "embed_tokens": {"embedding": normal(embed_key, (config.vocab_size, config.model_dim))},
        "layers": jax.vmap(one_layer)(jax.random.split(layer_key, config.num_layers)),
        "norm": norm,
    }
    if config.rope is None:
        shape = (config.context_length, config.model_dim)
        params["embed_positions"] = {"embedding": normal(place_key, shape)}
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
    remat: Remat = "projections",
) -> Float[Array, "B T D"]:
    """The final, normed hidden states of whole sequences.

    Args:
        config: what ``params`` was made for.
        params: base weights.
        tokens: token ids in [0, V).
        positions: of the tokens; by default 0, 1, 2, ... in every row.
        segments: which example each token belongs to, 0 for padding: a token sees the earlier
            tokens of its own segment alone, so several examples may share a row. By default one.
        hook: a change to the embedding and the projections.
        remat: what a backward pass finds stored, and what it computes again.
    """
    positions, segments = _defaults(tokens, positions, segments)
    run = _Run(config, params, hook, remat, keep=False)
    return run(tokens, positions, segments, None)[0]


def extend(
    config: DecoderConfig,
    params: Params,
    tokens: Int[Array, "B T"],
    *,
    positions: Int[Array, "B T"] | None = None,
    segments: Int[Array, "B T"] | None = None,
    past: Past | None = None,
    hook: LayerHook | None = None,
) -> tuple[Float[Array, "B T D"], KeyValues]:
    """As ``hidden_states``, gives also what a cache keeps, and sees what a cache has kept.

    Without a past this reads prompts, several in a row if there are segments; with one it goes on:
    T = 1 is a step of decoding.

    Args:
        config: what ``params`` was made for.
        params: base weights.
        tokens: token ids in [0, V).
        positions: of the tokens, those of the past counted.
        segments: as for ``hidden_states``; all of them see the row's whole past.
        past: earlier tokens of each row.
        hook: a change to the embedding and the projections.
    """
    positions, segments = _defaults(tokens, positions, segments)
    run = _Run(config, params, hook, "nothing", keep=True)
    hidden, kept = run(tokens, positions, segments, past)
    return hidden, KeyValues(*kept)


class _Run(NamedTuple):
    config: DecoderConfig
    params: Params
    hook: LayerHook | None
    remat: Remat
    keep: bool

    def __call__(self, tokens, positions, segments, past) -> tuple[Array, Any]:
        config, params = self.config, self.params
        views = _views(config, positions, segments, past)
        slides = None
        if config.sliding is not None and len(views) > 1:
            slides = jnp.asarray(config.sliding.layers)
        indices = jnp.arange(config.num_layers) if past is not None else None

        def layer(x, scanned):
            weights, per_layer, slide, index = scanned
            view, earlier = views[0]
            if slide is not None:
                view, earlier = jax.tree.map(lambda a, b: jnp.where(slide, b, a), *views)
            if past is not None and earlier is not None:
                view = view._replace(past=LayerPast(past.keys, past.values, index, earlier))
            x, kept = self._block(weights, per_layer, x, view)
            return x, kept if self.keep else None

        added = self.hook and self.hook.embedding
        x = _embed(config, params, tokens, positions, added)
        scanned = (params["layers"], self.hook and self.hook.per_layer, slides, indices)
        x, kept = jax.lax.scan(layer, x, scanned)
        return _final_norm(config, params, whole_width(x)), kept

    def _block(self, weights, per_layer, x, view) -> Any:
        def run(weights, per_layer, x, view):
            weights = gathered(weights, self.config.units, "layers")
            x = whole_width(x)
            layer = partial(Block(self.config).apply, {"params": weights}, x, view)
            if self.hook is None:
                return layer()
            with nn.intercept_methods(self.hook.interceptor(per_layer)):
                return layer()

        if self.remat != "nothing":
            run = jax.checkpoint(run, prevent_cse=False, policy=POLICIES[self.remat])
        return run(weights, per_layer, x, view)


def _defaults(tokens, positions, segments) -> tuple[Array, Array]:
    rows, time = tokens.shape
    if positions is None:
        positions = jnp.broadcast_to(jnp.arange(time), (rows, time))
    if segments is None:
        segments = jnp.ones((rows, time), jnp.int32)
    return positions, segments


def _views(
    config: DecoderConfig, positions, segments, past: Past | None
) -> list[tuple[View, Array | None]]:
    """How full layers see and how sliding ones do, as far as there are such layers.

    Each with what is visible of the past, [B, T, C].
    """
    time = positions.shape[1]
    causal = jnp.tril(jnp.ones((time, time), bool))
    visible = causal & (segments[:, :, None] == segments[:, None, :])
    earlier = None
    if past is not None:
        shape = (*positions.shape, past.positions.shape[1])
        earlier = jnp.broadcast_to(past.positions[:, None, :] >= 0, shape)
    turn = lambda rope: rope and rotation(rope, config.head_dim, positions)  # noqa: E731
    full = (View(visible, turn(config.rope)), earlier)
    sliding = config.sliding
    if sliding is None or not any(sliding.layers):
        return [(full[0]._replace(segments=segments), earlier)]
    first = positions[:, :, None] - sliding.window
    view = View(visible & (positions[:, None, :] > first), turn(sliding.rope or config.rope))
    if past is not None:
        earlier = earlier & (past.positions[:, None, :] > first)
    return [(view, earlier)] if all(sliding.layers) else [full, (view, earlier)]


def _embed(config: DecoderConfig, params: Params, tokens, positions, added) -> Array:
    table = gathered(params["embed_tokens"], config.units, "embed_tokens")["embedding"]
    x = whole_width(table[tokens])
    if added is not None:
        x = x + added(tokens).astype(x.dtype)
    if config.embedding_scale != 1:
        x = x * jnp.asarray(config.embedding_scale, x.dtype)
    if config.rope is None:
        x = x + params["embed_positions"]["embedding"][positions]
    return x


def _final_norm(config: DecoderConfig, params: Params, x: Array) -> Array:
    norm = params["norm"]
    if config.norm == "layer":
        return layer_norm(x, norm["scale"], norm["bias"], config.norm_eps)
    return rms_norm(x, norm["scale"], config.norm_eps, config.norm_offset)
