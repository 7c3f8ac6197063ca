"""Keys and values of earlier tokens: what a decoder gives out, and what it is handed back."""

from typing import NamedTuple

from jaxtyping import Array, Float, Int


class KeyValues(NamedTuple):
    """Keys and values of every layer for the tokens of one call."""

    keys: Float[Array, "L B K T H"]
    values: Float[Array, "L B K T H"]


class Past(NamedTuple):
    """Earlier tokens in C slots a row, in any order; ``positions`` says which a slot holds.

    The decoder only reads it. Whoever keeps the cache writes each call's ``KeyValues`` into it
    once, for all layers together: an array that a scan over layers changes would be copied.

    Attributes:
        keys: of every layer.
        values: of every layer.
        positions: of the token in each slot, -1 where there is none.
    """

    keys: Float[Array, "L B K C H"]
    values: Float[Array, "L B K C H"]
    positions: Int[Array, "B C"]


class LayerPast(NamedTuple):
    """The past of all layers, which one is meant, and what of it each token sees."""

    keys: Float[Array, "L B K C H"]
    values: Float[Array, "L B K C H"]
    layer: Int[Array, ""]
    visible: Array
    """Bool [B, T, C]."""
