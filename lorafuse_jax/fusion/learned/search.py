"""Random search over an operator's hyper-parameters, many of them in one compiled batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lorafuse_jax.fusion.operator import Operator
from lorafuse_jax.types import Adapter, UserError


class Trial(NamedTuple):
    """One point of a search: its settings and the score they reached."""

    settings: dict[str, Any]
    score: float


def random_search(
    op: Operator,
    stacked: Adapter,
    score: Callable[[Adapter], Float[Array, ""]],
    space: Mapping[str, tuple[float, float] | Sequence[Any]],
    *,
    trials: int = 32,
    seed: int = 0,
    batch_size: int = 8,
    **fixed: Any,
) -> list[Trial]:
    """Draw settings, fuse and score them, best first.

    Settings that differ in numbers only are fused and scored together, under vmap: one compilation
    for each combination of choices.

    Source: Bergstra and Bengio 2012.

    Args:
        op: the operator.
        stacked: leaves [S, L, ...].
        score: of an adapter on validation data, never on test data; higher is better. A pure
            function, as it is compiled and vmapped.
        space: hyper-parameter -> (low, high), drawn evenly between the two, for those that take a
            traced number; or a list of values to choose from.
        trials: how many points.
        seed: of the draw.
        batch_size: points that are fused at a time; it bounds the memory.
        **fixed: key, weights and settings that all points share.

    Raises:
        UserError: a name that the operator does not have, a range for what is not a number, or
            values of the wrong type.
    """
    ranges = {
        name: (float(values[0]), float(values[1]))
        for name, values in space.items()
        if isinstance(values, tuple)
    }
    choices = {name: values for name, values in space.items() if name not in ranges}
    _check_space(op, ranges, choices)
    rng = np.random.default_rng(seed)
    groups: dict[tuple, list[dict[str, float]]] = {}
    for _ in range(trials):
        chosen = tuple(values[int(rng.integers(len(values)))] for values in choices.values())
        numbers = {name: float(rng.uniform(*bounds)) for name, bounds in ranges.items()}
        groups.setdefault(chosen, []).append(numbers)
    found: list[Trial] = []
    for chosen, points in groups.items():
        settings = dict(zip(choices, chosen, strict=True))
        scores = _score_points(op, stacked, score, points, batch_size, settings | fixed)
        found += [Trial(settings | p, s) for p, s in zip(points, scores, strict=True)]
    return sorted(found, key=lambda trial: -trial.score)


def _score_points(
    op: Operator,
    stacked: Adapter,
    score: Callable[[Adapter], Float[Array, ""]],
    points: list[dict[str, float]],
    batch_size: int,
    static: dict[str, Any],
) -> list[float]:
    if not points[0]:  # choices alone: every point is the same
        return [float(jax.jit(lambda s: score(op(s, **static)))(stacked))] * len(points)
    columns = {name: jnp.array([point[name] for point in points]) for name in points[0]}

    @jax.jit
    def all_scores(stacked: Adapter, columns: dict[str, Array]) -> Float[Array, " P"]:
        one = lambda numbers: score(op(stacked, **numbers, **static))  # noqa: E731
        return jax.lax.map(one, columns, batch_size=batch_size)

    return [float(value) for value in all_scores(stacked, columns)]


def _check_space(
    op: Operator,
    ranges: Mapping[str, tuple[float, float]],
    choices: Mapping[str, Sequence[Any]],
) -> None:
    for name, (low, high) in ranges.items():
        hyper = op.hyperparameters.get(name)
        if hyper is not None and not hyper.takes_arrays:
            raise UserError(
                f"{op.name}: {name} cannot be searched over a range ({low}, {high}), as it is "
                f"not a number that may be traced; give a list of values for {hyper}"
            )
        op.resolve({name: low})
    for name, values in choices.items():
        for value in values:
            op.resolve({name: value})
