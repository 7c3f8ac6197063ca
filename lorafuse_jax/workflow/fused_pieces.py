"""An operator's result in pieces, some layers of one module at a time, whatever the whole's size.

Members are read as they are needed. A piece is as many layers as fit ``PIECE_BYTES``, and one at
least; those of one shape go through one compiled program. Where the result of a layer depends on
others (``scope=global``, null members), all members are in memory at once and are fused together.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lorafuse_jax.adapter import norm, squared_norm, take
from lorafuse_jax.adapter_spectral import truncate
from lorafuse_jax.formats.members import Members
from lorafuse_jax.formats.pieces import Piece, pieces_of
from lorafuse_jax.full_rank import as_deltas
from lorafuse_jax.fusion import Operator, compose
from lorafuse_jax.fusion.operator import layer_keys
from lorafuse_jax.types import Adapter, DenseDelta, LoraPair

PIECE_BYTES = 1 << 28
"""Of the members' factors and one dense delta, in float32; so much of them is small beside what an
operator takes on the way, and large beside the cost of calling a program."""


class FusedPiece(NamedTuple):
    """Some layers of the result.

    Attributes:
        piece: what to write.
        before: its squared norm before it was brought to a rank.
        members: the squared norms of the members, [S].
    """

    piece: Piece
    before: float
    members: list[float]


class FusedPieces:
    """The result of one operator.

    Attributes:
        like: the shapes and types of its leaves [L, ...].
        count: the number of pieces.
    """

    def __init__(
        self,
        op: Operator,
        members: Members,
        arguments: Mapping[str, Any],
        *,
        rank: int | None,
        key_seed: int,
    ) -> None:
        """Trace the operator, so that settings that it refuses are heard before any work.

        Args:
            op: how.
            members: what to fuse.
            arguments: settings, and weights.
            rank: to bring the result to.
            key_seed: randomness of a stochastic operator.
        """
        if rank is not None:
            op = compose(op, partial(_truncate_and_measure, rank=rank))
        self._members, self._measured = members, rank is not None
        self._key = jax.random.key(key_seed) if op.stochastic else None
        self._layerwise = op.layerwise and arguments.get("scope", "module") == "module"
        self._program = jax.jit(lambda stacked, key: op(stacked, key=key, **arguments))
        self._norms = jax.jit(_squared_norms)
        self._counts = {
            module: layers_at_once(pair) if self._layerwise else pair[0].shape[1]
            for module, pair in members.stack.like.items()
        }
        self.like = self._likes()
        self.count = sum(
            update[0].shape[0] // self._counts[module] for module, update in self.like.items()
        )

    def __iter__(self) -> Iterator[FusedPiece]:
        """Piece by piece, the layers of a module one after the other."""
        return self._layer_by_layer() if self._layerwise else self._at_once()

    def _layer_by_layer(self) -> Iterator[FusedPiece]:
        for module, update in self.like.items():
            layers, count = update[0].shape[0], self._counts[module]
            keys = self._keys(module, layers)
            for first in range(0, layers, count):
                part = {"": self._members.stack.read(module, first, count)}
                own = None if keys is None else {"": keys[first : first + count]}
                norms = self._norms(part).tolist()
                fused = jax.block_until_ready(self._program(part, own))
                del part  # the next piece's members take its place
                yield self._finish(Piece(module, first, fused.pop("")), norms)

    def _at_once(self) -> Iterator[FusedPiece]:
        stacked = self._members.stacked
        fused = self._program(stacked, self._key)
        for piece in pieces_of(fused):
            norms = self._norms({"": stacked[piece.module]}).tolist()
            yield self._finish(piece, norms)

    def _keys(self, module: str, layers: int) -> jax.Array | None:
        return None if self._key is None else layer_keys(self._key, module, layers)

    def _finish(self, piece: Piece, norms: list[float]) -> FusedPiece:
        update, before = self._split(piece.update)
        return FusedPiece(piece._replace(update=update), float(before), norms)

    def _split(self, update: LoraPair | DenseDelta) -> tuple[LoraPair | DenseDelta, Any]:
        if self._measured:
            return _split_measure(update)
        if self._members.full_rank:
            update = as_deltas({"": update})[""]
        return update, jnp.zeros(())

    def _likes(self) -> Adapter:
        """Shapes of the result; traced for each shape of a piece, as it will be run."""
        like = self._members.stack.like
        if not self._layerwise:
            shapes = jax.eval_shape(self._program, like, self._key)
            return {m: self._split_shape(update) for m, update in shapes.items()}
        found: Adapter = {}
        for module, pair in like.items():
            layers, count = pair[0].shape[1], self._counts[module]
            part = {"": jax.tree.map(lambda leaf, n=count: _resized(leaf, 1, n), pair)}
            keys = (
                None if self._key is None else {"": layer_keys(self._key, module, layers)[:count]}
            )
            update = self._split_shape(jax.eval_shape(self._program, part, keys)[""])
            found[module] = jax.tree.map(lambda leaf, n=layers: _resized(leaf, 0, n), update)
        return found

    def _split_shape(self, update: Any) -> Any:
        return jax.eval_shape(self._split, update)[0]


def layers_at_once(pair: LoraPair | DenseDelta) -> int:
    """How many layers of a module make a piece; it divides L, so that one program does for all.

    Args:
        pair: leaves [S, L, ...], or their shapes.
    """
    members, layers, fan_in, rank = pair[0].shape
    fan_out = pair[-1].shape[-1]
    size = 4 * (members * rank * (fan_in + fan_out) + fan_in * fan_out)
    most = max(1, PIECE_BYTES // size)
    return max(count for count in range(1, layers + 1) if layers % count == 0 and count <= most)


def _resized(leaf: Any, axis: int, size: int) -> jax.ShapeDtypeStruct:
    shape = (*leaf.shape[:axis], size, *leaf.shape[axis + 1 :])
    return jax.ShapeDtypeStruct(shape, leaf.dtype)


def _squared_norms(part: Adapter) -> jax.Array:
    members = part[""][0].shape[0]
    return jnp.stack([squared_norm(take(part, member)) for member in range(members)])


def _truncate_and_measure(adapter: Adapter, rank: int) -> Adapter:
    """The best approximation of that rank, and after it a direction as long as the original.

    An operator's result goes through layer by layer and is nowhere whole, so its norm has to come
    out with what is kept of it.
    """

    def one_layer(update: Any) -> LoraPair:
        pair = truncate(update, rank)
        length = norm({"": jax.tree.map(lambda leaf: leaf[None], update)})
        column = jnp.zeros_like(pair.lora_a[:, :1]).at[0].set(length)
        row = jnp.zeros_like(pair.lora_b[:1]).at[:, 0].set(1)
        return LoraPair(
            jnp.concatenate([pair.lora_a, column], axis=1),
            jnp.concatenate([pair.lora_b, row], axis=0),
        )

    return {module: jax.lax.map(one_layer, update) for module, update in adapter.items()}


def _split_measure(update: LoraPair | DenseDelta) -> tuple[LoraPair, jax.Array]:
    """What ``_truncate_and_measure`` joined: the update, and the squared norm before."""
    assert isinstance(update, LoraPair)
    before = jnp.sum(jnp.square(update.lora_a[:, 0, -1].astype(jnp.float32)))
    return LoraPair(update.lora_a[..., :-1], update.lora_b[..., :-1, :]), before
