"""The losses of many points, example by example: computed some at a time, and kept on disk."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from lorafuse_jax import memory
from lorafuse_jax.adapted import batch_log_probs, mixture_log_probs
from lorafuse_jax.adapter import pad_rank
from lorafuse_jax.data.batches import numbered_batches
from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.formats.folder import read_json
from lorafuse_jax.mixture import Coefficients, side_by_side
from lorafuse_jax.models.hub import Model
from lorafuse_jax.run_folder import write_atomically
from lorafuse_jax.types import Adapter, UserError

ROWS = 4
MOST_AT_ONCE = 8

Done: TypeAlias = Callable[[Sequence[str], np.ndarray], None]
"""``(names, losses [P, E])``: told of points as they come."""


class LossFile:
    """``losses.json``: name of a point -> the loss of each example, in nats.

    Written whole after every few points, so that work goes on where it was stopped.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        """Start a file, or go on with one that is about the same.

        Raises:
            UserError: it is damaged, or about other examples or adapters.
        """
        self._path, self._about = path, about
        self.losses: dict[str, list[float]] = {}
        if not path.exists():
            return
        there = read_json(path)
        for key, value in about.items():
            if there.get("about", {}).get(key) != value:
                raise UserError(
                    f"{path} holds losses with another {key}; remove the file, or repeat the "
                    "command as it was"
                )
        self.losses = there["losses"]

    def add(self, names: Iterable[str], losses: Float[np.ndarray, "P E"]) -> None:
        """Keep the losses of these points.

        Raises:
            UserError: one is not finite.
        """
        for name, own in zip(names, losses.tolist(), strict=True):
            if not np.isfinite(own).all():
                raise UserError(f"the loss at {name} is not finite; look at the adapters of it")
            self.losses[name] = own
        content = {"about": self._about, "losses": self.losses}
        write_atomically(self._path, json.dumps(content) + "\n")

    def of(self, names: Sequence[str]) -> Float[np.ndarray, "P E"]:
        """The losses of these points."""
        return np.array([self.losses[name] for name in names])


class PointLosses:
    """Losses of points over one base, as many at once as memory allows."""

    def __init__(
        self, model: Model, stacked: Adapter, examples: Sequence[Encoded], at_once: int | None
    ) -> None:
        """Pack the examples.

        Args:
            model: the base.
            stacked: the members, with the decoder's module paths.
            examples: what the loss is measured on.
            at_once: points; None is as many as fit, up to ``MOST_AT_ONCE``.
        """
        self._model, self._joined = model, side_by_side(stacked)
        self._numbered = numbered_batches(examples, 1, ROWS)
        self._count, self._at_once = len(examples), at_once
        most = max(len(numbers) for numbers, _ in self._numbered)

        def by_example(log_probs: Any, batch: Any) -> Any:
            losses = -log_probs * batch.loss_weight
            return jax.ops.segment_sum(losses, batch.loss_example, num_segments=most)

        def mixed(coefficients, params, joined, batch):
            log_probs = mixture_log_probs(model.config, params, joined, coefficients, batch)
            return by_example(log_probs, batch)

        def adapted(adapter, params, batch):
            log_probs = batch_log_probs(
                model.config, params, adapter, batch, rules=(), remat="nothing"
            )
            return by_example(log_probs, batch)

        self._mixed = jax.jit(jax.vmap(mixed, in_axes=(0, None, None, None)))
        self._adapted = jax.jit(jax.vmap(adapted, in_axes=(0, None, None)))

    def mixtures(self, points: dict[str, Coefficients], done: Done) -> None:
        """Weighted sums of the members; ``done(names, losses)`` is told as they come.

        Raises:
            UserError: not even one point at a time fits the memory.
        """
        if points:
            like = next(iter(points.values()))
            self._stream(self._mixed, list(points), points.__getitem__, like, (self._joined,), done)

    def adapters(
        self,
        names: Sequence[str],
        fuse: Callable[[str], Adapter],
        done: Done,
    ) -> None:
        """Adapters alike in kind, the one of the highest rank first; each is made in its turn.

        Raises:
            UserError: not even one point at a time fits the memory.
        """
        if names:
            like = fuse(names[0])
            self._stream(
                self._adapted, names, lambda name: _padded(fuse(name), like), like, (), done
            )

    def _stream(
        self,
        program: Any,
        names: Sequence[str],
        make: Callable[[str], Any],
        like: Any,
        shared: tuple[Any, ...],
        done: Done,
    ) -> None:
        run, size = self._compiled(program, like, shared, len(names))
        for start in range(0, len(names), size):
            some = names[start : start + size]
            trees = [make(name) for name in some]
            trees += [trees[-1]] * (size - len(trees))
            tree = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
            losses = np.zeros((size, self._count))
            for numbers, batch in self._numbered:
                found = np.asarray(run(tree, self._model.params, *shared, batch))
                losses[:, numbers] = found[:, : len(numbers)]
            done(some, losses[: len(some)])

    def _compiled(
        self, program: Any, like: Any, shared: tuple[Any, ...], count: int
    ) -> tuple[Callable, int]:
        """The program for as many points as fit, and how many these are."""
        size = min(count, self._at_once or MOST_AT_ONCE)
        batch, have = self._numbered[0][1], memory.usable_bytes()
        while True:
            points = jax.tree.map(partial(_repeated, size), like)
            compiled = program.lower(points, self._model.params, *shared, batch).compile()
            needed = _needed(compiled, points)
            if have is None or needed <= have:
                return compiled, size
            if size == 1 or self._at_once:
                raise UserError(
                    f"{size} points at once need {needed / 2**30:.1f} GiB beside the model, and "
                    f"{have / 2**30:.1f} GiB may be taken; ask for fewer with --at-once, or fewer "
                    "seeds"
                )
            size = max(1, min(size - 1, int(size * have / needed)))


def constant(weights: Sequence[float], stacked: Adapter) -> Coefficients:
    """The same weights in every module and layer."""
    own = jnp.asarray(weights, jnp.float32)
    return {
        module: jnp.broadcast_to(own, (update[0].shape[1], len(weights)))
        for module, update in stacked.items()
    }


def _padded(adapter: Adapter, like: Adapter) -> Adapter:
    """The same updates, of the ranks of ``like``."""
    return {
        module: pad_rank({module: update}, like[module][0].shape[-1])[module]
        for module, update in adapter.items()
    }


def _repeated(size: int, leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype)


def _needed(compiled: Any, points: Any) -> int:
    """Bytes beside the model and the members: intermediate results, and the points twice."""
    stats = compiled.memory_analysis()
    temporary = 0 if stats is None else stats.temp_size_in_bytes
    leaves = jax.tree.leaves(points)
    return temporary + 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
