"""Operations of the matrix products of a program as it was traced, before any compiler saw it.

For programs whose compiled text cannot be read. What a compiler drops is counted, what it computes
on several devices alike is not.
"""

import math
from collections.abc import Iterator
from typing import Any

from jax.extend import core


def traced_flops(jaxpr: core.Jaxpr) -> float:
    """On all devices together; of branches the dearest.

    Raises:
        ValueError: a product in a loop whose number of turns is not known.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        name, inner = equation.primitive.name, list(_inner(equation.params))
        if name == "dot_general":
            total += _product(equation)
        elif name == "scan":
            total += equation.params["length"] * sum(map(traced_flops, inner))
        elif name == "cond":
            total += max(map(traced_flops, inner))
        elif name == "while":
            if any(map(traced_flops, inner)):
                raise ValueError("a product stands in a loop whose number of turns is not known")
        else:
            total += sum(map(traced_flops, inner))
    return total


def _product(equation: Any) -> float:
    """2 m k n, for each member of a batch."""
    (summed, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    made = math.prod(equation.outvars[0].aval.shape)
    return 2.0 * made * math.prod(left[axis] for axis in summed)


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, core.ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, core.Jaxpr):
                yield each
