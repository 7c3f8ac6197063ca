"""The algebra of adapter trees: stack, take, scale, sum, measure, compress.

Sums, norms and truncations of low-rank adapters are exact and done on the factors; a dense delta is
made only where it is asked for.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lorafuse_jax.adapter_spectral import truncate
from lorafuse_jax.types import Adapter, DenseDelta, LoraPair, UserError


def stack(adapters: Sequence[Adapter]) -> Adapter:
    """Members as one tree with leaves [S, L, ...].

    Where ranks differ the smaller ones are padded with zeros, module by module, which is exact.

    Raises:
        UserError: members differ in modules, kinds or shapes; names the member and the module.
    """
    if not adapters:
        raise UserError("there is nothing to stack: no adapters were given")
    first = adapters[0]
    for number, adapter in enumerate(adapters):
        for module in sorted(first.keys() ^ adapter.keys()):
            where = "lacks" if module in first else "has, member 0 has not,"
            raise UserError(f"member {number} {where} module {module}; members must agree")
        for module, update in adapter.items():
            _check_like(first[module], update, module, number)
    stacked: Adapter = {}
    for module in first:
        rank = max(_rank(adapter[module]) for adapter in adapters)
        padded = [pad_rank({module: adapter[module]}, rank)[module] for adapter in adapters]
        stacked[module] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded)
    return stacked


def take(stacked: Adapter, member: int) -> Adapter:
    """One member of a stacked tree, leaves [L, ...]; negative numbers count from the end.

    Raises:
        UserError: there is no such member.
    """
    size = num_members(stacked)
    if not -size <= member < size:
        raise UserError(f"there is no member {member}: the stacked adapter has {size} members")
    return jax.tree.map(lambda leaf: leaf[member], stacked)


def num_members(stacked: Adapter) -> int:
    """S, the same in every leaf.

    Raises:
        UserError: the tree is empty or not stacked, or leaves disagree; names the module.
    """
    if not stacked:
        raise UserError("the stacked adapter is empty")
    size = next(iter(stacked.values()))[0].shape[0]
    for module, update in stacked.items():
        for name, leaf in zip(update._fields, update, strict=True):
            if leaf.ndim != 4:
                raise UserError(
                    f"{module}: {name} has shape {list(leaf.shape)}, a stacked adapter has four "
                    "axes [S, L, ...]; stack([adapter, ...]) makes one"
                )
            if leaf.shape[0] != size:
                raise UserError(
                    f"{module}: {name} has {leaf.shape[0]} members, the first module has {size}"
                )
    return size


def pad_rank(adapter: Adapter, rank: int) -> Adapter:
    """The same updates written with R = ``rank``, the new directions zero.

    Raises:
        UserError: a module has a larger rank; use ``compress`` to lower it.
    """
    padded: Adapter = {}
    for module, update in adapter.items():
        if isinstance(update, LoraPair):
            missing = rank - update.lora_a.shape[-1]
            if missing < 0:
                raise UserError(
                    f"{module}: rank {update.lora_a.shape[-1]} cannot be padded to {rank}; "
                    "compress lowers a rank"
                )
            last = [(0, 0)] * (update.lora_a.ndim - 1) + [(0, missing)]
            middle = [*last[:-2], (0, missing), (0, 0)]
            update = LoraPair(jnp.pad(update.lora_a, last), jnp.pad(update.lora_b, middle))
        padded[module] = update
    return padded


def scale(adapter: Adapter, factor: float | Float[Array, ""]) -> Adapter:
    """``factor`` times every delta, in the adapter's own dtype."""
    return {
        module: update._replace(
            **{update._fields[-1]: (update[-1] * factor).astype(update[-1].dtype)}
        )
        for module, update in adapter.items()
    }


def pair_delta(pair: LoraPair) -> Float[Array, "*SL I O"]:
    """The dense update of one module."""
    return pair.lora_a @ pair.lora_b


def to_delta(adapter: Adapter) -> Adapter:
    """The same updates, dense."""
    return {module: DenseDelta(_dense(update)) for module, update in adapter.items()}


def concat_pair(pair: LoraPair, weights: Float[Array, " S"]) -> LoraPair:
    """``sum_s weights[s] delta_s`` of one module [S, I, R], exactly, as one pair of rank S * R."""
    members, fan_in, rank = pair.lora_a.shape
    weighted = pair.lora_b * weights[:, None, None].astype(pair.lora_b.dtype)
    return LoraPair(
        pair.lora_a.transpose(1, 0, 2).reshape(fan_in, members * rank),
        weighted.reshape(members * rank, -1),
    )


def combine(stacked: Adapter, weights: Float[Array, " S"]) -> Adapter:
    """``sum_s weights[s] delta_s``, exactly; of low-rank members with rank S * R."""
    result: Adapter = {}
    for module, update in stacked.items():
        if isinstance(update, LoraPair):
            result[module] = jax.vmap(concat_pair, in_axes=(1, None))(update, weights)
        else:
            result[module] = DenseDelta(jnp.einsum("s,slio->lio", weights, update.delta))
    return result


def pair_inner(left: LoraPair, right: LoraPair) -> Float[Array, ""]:
    """``<delta_left, delta_right>`` (Frobenius) of one module, from the factors.

    ``tr((A_l B_l)^T A_r B_r)`` is the sum over ``(A_l^T A_r) * (B_l B_r^T)``, which is R by R.
    """
    return ((left.lora_a.mT @ right.lora_a) * (left.lora_b @ right.lora_b.mT)).sum()


def inner(left: Adapter, right: Adapter) -> Float[Array, ""]:
    """The Frobenius inner product over all modules and layers, in float32 at least.

    Raises:
        UserError: one adapter has a module that the other lacks.
    """
    if lacking := sorted(left.keys() ^ right.keys()):
        raise UserError(f"the adapters differ: only one of them has module {lacking[0]}")
    total = jnp.zeros(())
    for module, update in left.items():
        one, other = _in_full_precision(update), _in_full_precision(right[module])
        if isinstance(one, LoraPair) and isinstance(other, LoraPair):
            total += pair_inner(one, other)
        else:
            total += jnp.sum(_dense(one) * _dense(other))
    return total


def squared_norm(adapter: Adapter) -> Float[Array, ""]:
    """The squared Frobenius norm over all modules and layers."""
    return jnp.maximum(inner(adapter, adapter), 0)


def norm(adapter: Adapter) -> Float[Array, ""]:
    """The Frobenius norm over all modules and layers."""
    return jnp.sqrt(squared_norm(adapter))


def cosine(left: Adapter, right: Adapter) -> Float[Array, ""]:
    """``inner / (norm * norm)``; NaN where an adapter is zero."""
    return inner(left, right) / (norm(left) * norm(right))


def compress(adapter: Adapter, rank: int) -> Adapter:
    """The nearest adapter of rank ``rank`` (Eckart-Young), singular values split over both factors.

    A low-rank update never becomes dense and is compressed exactly; a large dense one through a
    randomised SVD (``adapter_spectral.truncate``). The rank that comes out is smaller where the
    update cannot have more: K = min(I, O, R).

    Raises:
        UserError: the rank is below 1.
    """
    if rank < 1:
        raise UserError(f"cannot compress to rank {rank}: a rank is at least 1")

    def one_layer(update: LoraPair | DenseDelta) -> LoraPair:
        pair = truncate(_in_full_precision(update), rank)
        return jax.tree.map(lambda leaf: leaf.astype(update[0].dtype), pair)

    return {module: jax.lax.map(one_layer, update) for module, update in adapter.items()}


def _dense(update: LoraPair | DenseDelta) -> Float[Array, "*SL I O"]:
    return pair_delta(update) if isinstance(update, LoraPair) else update.delta


def _in_full_precision(update: LoraPair | DenseDelta) -> LoraPair | DenseDelta:
    """Float32 at least: bfloat16 sums lose digits and its SVD does not exist."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf, jnp.float32)), update)


def _rank(update: LoraPair | DenseDelta) -> int:
    return update.lora_a.shape[-1] if isinstance(update, LoraPair) else 0


def _fans(update: LoraPair | DenseDelta) -> tuple[int, ...]:
    """[L, I, O], whatever the rank."""
    return (*update[0].shape[:-1], update[-1].shape[-1])


def _check_like(
    first: LoraPair | DenseDelta, update: LoraPair | DenseDelta, module: str, number: int
) -> None:
    if type(first) is not type(update):
        kinds = f"{type(update).__name__}, member 0 is {type(first).__name__}"
        raise UserError(f"{module}: member {number} is {kinds}; use to_delta on all of them")
    if _fans(update) != _fans(first):
        raise UserError(
            f"{module}: member {number} is [L, I, O] = {list(_fans(update))}, member 0 "
            f"{list(_fans(first))}; they were made for different models"
        )
