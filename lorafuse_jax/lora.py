"""LoRA (arXiv 2106.09685, rsLoRA 2312.03732) as data beside a model that knows nothing of it.

An adapter carries no scale: ``delta = lora_a @ lora_b`` is what is added to the kernel. While
training, ``scaled`` multiplies ``lora_b`` by the rule's ``alpha / rank`` before the forward pass,
so that there is one forward for trained, imported and fused adapters alike.
"""

import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from lorafuse_jax.ends import embedding_hook, end_modules, head_hook, init_table, layers_alone
from lorafuse_jax.models.block import keep
from lorafuse_jax.models.decoder import LayerHook
from lorafuse_jax.models.head import HeadHook
from lorafuse_jax.models.quantized import is_kernel
from lorafuse_jax.types import (
    EMBEDDING,
    ENDS,
    HEAD,
    Adapter,
    DenseDelta,
    LoraPair,
    Params,
    UserError,
)

ALL_LINEAR = r"layers/(self_attn|mlp)/\w+_proj"
LAYERS = "layers/"


@dataclass(frozen=True, kw_only=True)
class LoraRule:
    """Which projections get which low-rank update; of several rules the first that matches wins.

    Attributes:
        targets: full-match regular expression on the module path, ``"layers/self_attn/q_proj"``.
            The model's ends, ``"embed_tokens"`` and ``"lm_head"``, match by their names alone.
        rank: R, at least 1.
        alpha: numerator of the scale.
        dropout: probability in [0, 1) with which an input feature of the update is dropped.
        rslora: scale by ``alpha / sqrt(rank)`` instead of ``alpha / rank``.
    """

    targets: str = ALL_LINEAR
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"rank {self.rank} is not possible: a LoRA rank is at least 1")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout {self.dropout} is not a probability in [0, 1)")
        try:
            re.compile(self.targets)
        except re.error as error:
            raise UserError(f"targets {self.targets!r} is no regular expression: {error}") from None

    @property
    def scale(self) -> float:
        """What ``lora_a @ lora_b`` is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def matches(self, module: str) -> bool:
        """Whether it is for this module."""
        if module in ENDS:
            return self.targets == module
        return re.fullmatch(self.targets, module) is not None


def adaptable_modules(params: Params) -> dict[str, tuple[int, int, int]]:
    """Module path -> (L, I, O) of every projection of the scanned layers."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params["layers"], is_leaf=is_kernel):
        *module, last = (str(entry.key) for entry in path)
        if last == "kernel":
            found[LAYERS + "/".join(module)] = leaf.shape
    return found


def match_rules(modules: Iterable[str], rules: Sequence[LoraRule]) -> dict[str, LoraRule]:
    """Module path -> the first rule that matches it, for those that have one.

    Raises:
        UserError: a rule matches no module at all.
    """
    modules = list(modules)
    for rule in rules:
        if not any(map(rule.matches, modules)):
            listed = "\n  ".join(modules)
            raise UserError(f"targets {rule.targets!r} match no module; there are\n  {listed}")
    matched = {}
    for module in modules:
        rule = next((rule for rule in rules if rule.matches(module)), None)
        if rule is not None:
            matched[module] = rule
    return matched


def init_adapter(key: Key[Array, ""], params: Params, rules: Sequence[LoraRule]) -> Adapter:
    """A fresh adapter: A uniform in +-1/sqrt(I) as in PEFT, B zero, so that it changes nothing yet.

    The embedding's, as there, has A zero and B normal. Each module draws from its own key, folded
    from its name, so adding a target moves no other.
    """
    shapes = adaptable_modules(params) | end_modules(params)
    adapter: Adapter = {}
    for module, rule in match_rules(shapes, rules).items():
        layers, fan_in, fan_out = shapes[module]
        module_key = jax.random.fold_in(key, zlib.crc32(module.encode()))
        if module == EMBEDDING:
            adapter[module] = init_table(module_key, fan_in, fan_out, rule.rank)
            continue
        bound = 1 / math.sqrt(fan_in)
        adapter[module] = LoraPair(
            jax.random.uniform(
                module_key, (layers, fan_in, rule.rank), minval=-bound, maxval=bound
            ),
            jnp.zeros((layers, rule.rank, fan_out)),
        )
    return adapter


def scaled(adapter: Mapping[str, Any], rules: Sequence[LoraRule]) -> dict[str, Any]:
    """The adapter with each rule's scale folded into ``lora_b``: what is saved, fused, served."""
    return scaled_by(adapter, scales_of(adapter, rules))


def scales_of(modules: Iterable[str], rules: Sequence[LoraRule]) -> dict[str, float]:
    """Module path -> the scale of the rule that matches it."""
    return {module: rule.scale for module, rule in match_rules(modules, rules).items()}


def scaled_by(adapter: Mapping[str, Any], scales: Mapping[str, float | Array]) -> dict[str, Any]:
    """As ``scaled``, by each module's scale; a dense update has none and stays as it is."""
    return {
        module: update
        if isinstance(update, DenseDelta)
        else update._replace(lora_b=update.lora_b * scales[module])
        for module, update in adapter.items()
    }


def check_fits(adapter: Adapter, params: Params) -> None:
    """Raise UserError if the adapter has a module that the model lacks, or of another shape."""
    shapes = adaptable_modules(params) | end_modules(params)
    for module, update in adapter.items():
        if module not in shapes:
            near = get_close_matches(module, shapes, n=3, cutoff=0.3) or sorted(shapes)
            raise UserError(f"the model has no module {module!r}; near: {', '.join(near)}")
        if isinstance(update, LoraPair):
            layers, fan_in, _ = update.lora_a.shape
            shape = (layers, fan_in, update.lora_b.shape[-1])
        else:
            shape = update.delta.shape
        if shape != shapes[module]:
            raise UserError(
                f"{module}: the adapter is for [L, I, O] = {list(shape)}, the model has "
                f"{list(shapes[module])}; it was made for another model"
            )


def adapter_hook(
    adapter: Adapter, *, rules: Sequence[LoraRule] = (), dropout_key: Key[Array, ""] | None = None
) -> LayerHook:
    """What makes the decoder's embedding and projections add their update, layer by layer.

    The head's update comes after the layers, by ``adapter_head_hook``.

    Args:
        adapter: leaves [L, ...], with the scale in them.
        rules: where the dropout rates stand; of use only with ``dropout_key``.
        dropout_key: drop input features of the updates; None (evaluation) drops none.
    """
    layers = layers_alone(adapter)
    rates, keys = {}, None
    if dropout_key is not None and any(rule.dropout for rule in rules):
        rates = {module: rule.dropout for module, rule in match_rules(adapter, rules).items()}
        keys = _layer_keys(dropout_key, layers)

    def interceptor(per_layer: tuple[Adapter, Array | None]) -> Callable:
        updates, key = per_layer

        def intercept(next_fun, args, kwargs, context):
            module = LAYERS + "/".join(context.module.path)
            if module not in updates or context.method_name != "__call__":
                return next_fun(*args, **kwargs)
            y, x = next_fun(*args, **kwargs), args[0]
            if key is not None and rates[module]:
                x = drop(x, rates[module], jax.random.fold_in(key, zlib.crc32(module.encode())))
            return y + apply_update(updates[module], x)

        return intercept

    return LayerHook((layers, keys), interceptor, embedding_hook(adapter.get(EMBEDDING)))


def adapter_head_hook(
    adapter: Adapter, *, rules: Sequence[LoraRule] = (), dropout_key: Key[Array, ""] | None = None
) -> HeadHook | None:
    """What makes the head's projection add its update; see ``adapter_hook``. None without one."""
    if HEAD not in adapter:
        return None
    if dropout_key is None or not any(rule.dropout for rule in rules):
        return head_hook(adapter[HEAD])
    rate = match_rules(adapter, rules)[HEAD].dropout
    key = jax.random.fold_in(dropout_key, zlib.crc32(HEAD.encode()))
    return head_hook(adapter[HEAD], lambda x: drop(x, rate, key))


def _layer_keys(key: Key[Array, ""], layers: Mapping[str, Any]) -> Key[Array, " L"] | None:
    """One a layer, if there is a module in the layers."""
    return jax.random.split(key, jax.tree.leaves(layers)[0].shape[0]) if layers else None


def apply_update(update: LoraPair | DenseDelta, x: Array) -> Array:
    """What one layer's update adds to the output of its projection, for the input ``x``."""
    if isinstance(update, DenseDelta):
        return x @ update.delta.astype(x.dtype)
    return _low_rank_product(x, update.lora_a.astype(x.dtype), update.lora_b.astype(x.dtype))


@jax.custom_vjp
def _low_rank_product(x: Array, lora_a: Array, lora_b: Array) -> Array:
    return (x @ lora_a) @ lora_b


def _low_rank_forward(x: Array, lora_a: Array, lora_b: Array) -> tuple[Array, tuple]:
    down = keep(x @ lora_a)
    return down @ lora_b, (x, down, lora_a, lora_b)


def _low_rank_backward(residuals: tuple, cotangent: Array) -> tuple[Array, Array, Array]:
    """As differentiation gives it, with the narrow factor on the left of both weight gradients.

    Otherwise, under vmap, XLA:CPU copies the wide factor (``x``, the cotangent) into another
    layout, which costs a fifth of a whole training step. The barrier keeps it from folding the
    transpose of A's gradient back into the product.
    """
    x, down, lora_a, lora_b = residuals
    flat = lambda y: y.reshape(-1, y.shape[-1])  # noqa: E731
    down_cotangent = cotangent @ lora_b.T
    lora_a_transposed = jax.lax.optimization_barrier(flat(down_cotangent).T @ flat(x))
    return down_cotangent @ lora_a.T, lora_a_transposed.T, flat(down).T @ flat(cotangent)


_low_rank_product.defvjp(_low_rank_forward, _low_rank_backward)


def drop(x: Array, rate: float, key: Array) -> Array:
    """Dropout: features to zero with probability ``rate``, the others scaled up."""
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0)
