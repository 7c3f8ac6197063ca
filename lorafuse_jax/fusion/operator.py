"""A fusion operator: a pure function that makes one adapter of a stacked tree of members.

``op(stacked, weights=..., key=..., **hyperparameters) -> adapter``. It is written for one module of
one layer, or for the whole tree; ``@operator`` lifts the first kind, checks what it is given and
registers nothing: the table of names is ``fusion.OPERATORS``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from zlib import crc32

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from lorafuse_jax.adapter import num_members
from lorafuse_jax.fusion.hyperparameters import Hyperparameter, hyperparameters_of
from lorafuse_jax.types import Adapter, DenseDelta, LoraPair, UserError


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A named way to fuse; call it like a function.

    Results are differentiable in ``weights`` with finite gradients. Members in half precision are
    fused in float32 and the result has the members' dtype.

    Attributes:
        name: as in ``OPERATORS``.
        fn: ``fn(pair [S, I, R], [S, R, O], *, weights, ...)`` for ``lift="module"``,
            ``fn(stacked, *, weights, ...)`` for ``lift="tree"``; with ``key`` if stochastic.
        source: the paper.
        lift: what ``fn`` is written for.
        stream: go through the layers one by one, so that the dense deltas of one module of one
            layer are all that exists at a time; otherwise all layers are done at once.
        stochastic: takes a key (and may need it only for some settings).
        fixed_point: identical members give that member, at default settings.
        permutation_invariant: the order of members, with their weights, is of no consequence.
        identity_for_one: a single member comes back, at default settings.
        transforms: applied to the result, left to right.
    """

    name: str
    fn: Callable[..., Any]
    source: str
    lift: Literal["module", "tree"]
    stream: bool = False
    stochastic: bool = False
    fixed_point: bool = True
    permutation_invariant: bool = True
    identity_for_one: bool = True
    transforms: tuple[Callable[[Adapter], Adapter], ...] = ()

    @property
    def hyperparameters(self) -> dict[str, Hyperparameter]:
        """Name -> type and default: the signature of ``fn`` is the schema."""
        return hyperparameters_of(self.fn)

    def resolve(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Every hyper-parameter with its value: as given, or else its default.

        Raises:
            UserError: an unknown name or a value of the wrong type; lists the real ones.
        """
        known = self.hyperparameters
        for name in settings:
            _check_name(self, name)
        return {
            name: hyper.check(settings[name]) if name in settings else hyper.default
            for name, hyper in known.items()
        }

    def __call__(
        self,
        stacked: Adapter,
        *,
        weights: Float[Array, " _"] | Sequence[float] | None = None,
        key: Key[Array, ""] | None = None,
        **settings: Any,
    ) -> Adapter:
        """Fuse the members into one adapter.

        Args:
            stacked: LoraPairs with leaves [S, L, I, R] and [S, L, R, O].
            weights: one a member [S], 1/S each by default. The result scales with their sum.
            key: randomness, for a stochastic operator.
            **settings: see ``hyperparameters``.

        Raises:
            UserError: dense members, another number of weights than of members, a wrong setting.
        """
        resolved = self.resolve(settings)
        members = num_members(stacked)
        pairs = _check_low_rank(stacked)
        if key is not None:
            if not self.stochastic:
                raise UserError(f"{self.name} is not stochastic and takes no key")
            resolved["key"] = key
        resolved["weights"] = _check_weights(weights, members)
        exact = jax.tree.map(lambda x: x.astype(jnp.promote_types(x, jnp.float32)), pairs)
        lifted = self.fn if self.lift == "tree" else self._over_modules
        fused = lifted(exact, **resolved)
        for transform in self.transforms:
            fused = transform(fused)
        return {module: _cast(update, pairs[module]) for module, update in fused.items()}

    def _over_modules(
        self, stacked: dict[str, LoraPair], *, key: Key[Array, ""] | None = None, **arguments: Any
    ) -> Adapter:
        def one_layer(pair_and_key: tuple[LoraPair, Array | None]) -> LoraPair | DenseDelta:
            pair, layer_key = pair_and_key
            extra = {} if layer_key is None else {"key": layer_key}
            return self.fn(pair, **arguments, **extra)

        fused: Adapter = {}
        for module, pair in stacked.items():
            by_layer = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), pair)
            keys = None
            if key is not None:  # from the module's name, so that other modules do not matter
                module_key = jax.random.fold_in(key, crc32(module.encode()))
                keys = jax.random.split(module_key, by_layer[0].shape[0])
            over_layers = jax.lax.map if self.stream else _vmap
            fused[module] = over_layers(one_layer, (by_layer, keys))
        return fused


def operator(
    *, source: str, lift: Literal["module", "tree"], **declared: Any
) -> Callable[[Callable[..., Any]], Operator]:
    """Make an ``Operator`` of a function, named after it.

    Args:
        source: the paper.
        lift: what the function is written for.
        **declared: ``stream``, ``stochastic`` and the promises the contract tests check.
    """
    return lambda fn: Operator(name=fn.__name__, fn=fn, source=source, lift=lift, **declared)


def compose(op: Operator, *transforms: Callable[[Adapter], Adapter]) -> Operator:
    """``op``, then the transforms from left to right: ``compose(mean, partial(compress, rank=8))``.

    The declared promises stay those of ``op``.
    """
    return replace(op, transforms=(*op.transforms, *transforms))


def parse_settings(op: Operator, settings: Sequence[str]) -> dict[str, Any]:
    """Typed hyper-parameters from ``name=value`` strings of a command line.

    Raises:
        UserError: no ``=``, a name twice, an unknown name, a value that does not read as its type.
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise UserError(f"{op.name}: {setting!r} is not name=value; {_listed(op)}")
        _check_name(op, name)
        if name in parsed:
            raise UserError(f"{op.name}: {name} is given twice")
        parsed[name] = op.hyperparameters[name].parse(text)
    return parsed


def _check_name(op: Operator, name: str) -> None:
    if name not in op.hyperparameters:
        raise UserError(f"{op.name} has no hyper-parameter {name!r}; {_listed(op)}")


def _listed(op: Operator) -> str:
    return "it has " + (", ".join(map(str, op.hyperparameters.values())) or "none")


def _check_low_rank(stacked: Adapter) -> dict[str, LoraPair]:
    pairs: dict[str, LoraPair] = {}
    for module, update in stacked.items():
        if isinstance(update, DenseDelta):
            raise UserError(
                f"{module}: the members are dense deltas, operators fuse low-rank members; "
                "compress(adapter, rank) makes each of them low-rank first"
            )
        pairs[module] = update
    return pairs


def _check_weights(
    weights: Float[Array, " _"] | Sequence[float] | None, members: int
) -> Float[Array, " S"]:
    if weights is None:
        return jnp.full(members, 1 / members)
    values = jnp.asarray(weights, dtype=float)
    if values.shape != (members,):
        raise UserError(
            f"weights have shape {list(values.shape)}, there are {members} members: "
            f"expected one weight a member, [{members}]"
        )
    return values


def _cast(update: LoraPair | DenseDelta, like: LoraPair) -> LoraPair | DenseDelta:
    return jax.tree.map(lambda leaf: leaf.astype(like.lora_a.dtype), update)


def _vmap(one_layer: Callable[[Any], Any], stacked: Any) -> Any:
    return jax.vmap(one_layer)(stacked)
