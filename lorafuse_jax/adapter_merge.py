"""An adapter added to the weights of the model that it belongs to."""

from difflib import get_close_matches

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.adapter import to_delta
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


def merge_into(params: Params, adapter: Adapter) -> Params:
    """The base weights with the adapter added; arrays that do not change are shared.

    Module ``layers/self_attn/q_proj`` is added to
    ``params["layers"]["self_attn"]["q_proj"]["kernel"]`` [L, I, O], which keeps its dtype. Of the
    model's ends, the embedding's table [V, D] and the head's kernel [D, V] have no axis L.

    Raises:
        UserError: a module that the model lacks, or of another shape; or an end of a model whose
            two ends are one table.
    """
    merged = dict(params)
    for module, update in adapter.items():
        if module in ENDS:
            merged[module] = _merged_end(params, module, update)
            continue
        node = merged
        for name in module.split("/"):
            if not isinstance(node.get(name), dict):
                raise UserError(f"the model has no module {module!r}{_near(params, module)}")
            node[name] = dict(node[name])
            node = node[name]
        if "kernel" not in node:
            raise UserError(f"the model has no module {module!r}{_near(params, module)}")
        kernel = node["kernel"]
        if isinstance(kernel, tuple):
            raise UserError(
                f"{module}: the base is quantised ({type(kernel).__name__}), and what is added to "
                "it would be rounded away; load it without quantization"
            )
        node["kernel"] = _sum(kernel, update, module)
    return merged


def _merged_end(params: Params, module: str, update: LoraPair | DenseDelta) -> Params:
    """Of the embedding or the head: what stands in its place."""
    if HEAD not in params:
        raise UserError(
            f"{module}: embedding and output head of this model are one table, and the adapter "
            "changes one of them; lorafuse export writes a checkpoint that has both"
        )
    leaf = "embedding" if module == EMBEDDING else "kernel"
    return {**params[module], leaf: _sum(params[module][leaf][None], update, module)[0]}


def _sum(
    kernel: Float[Array, "L I O"], update: LoraPair | DenseDelta, module: str
) -> Float[Array, "L I O"]:
    """Made in float32 at least: bfloat16 products lose digits."""
    fans = (*update[0].shape[:-1], update[-1].shape[-1])
    if kernel.shape != fans:
        raise UserError(
            f"{module}: the adapter is [L, I, O] = {list(fans)}, the model has "
            f"{list(kernel.shape)}; it was made for another model"
        )
    exact = jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf, jnp.float32)), update)
    return (kernel + to_delta({"": exact})[""][0]).astype(kernel.dtype)


def _near(params: Params, module: str) -> str:
    modules = []
    for path, _ in jax.tree_util.tree_leaves_with_path(params):
        *parents, last = (str(entry.key) for entry in path)
        if last == "kernel":
            modules.append("/".join(parents))
    near = get_close_matches(module, modules, n=3, cutoff=0.3)
    return f"; near: {', '.join(near)}" if near else ""
