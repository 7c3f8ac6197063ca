"""A fusion operator: a pure function that makes one adapter of a stacked tree of members.

``op(stacked, weights=..., key=..., **hyperparameters) -> adapter``. It is written for one module of
one layer, or for the whole tree; ``@operator`` lifts the first kind, checks what it is given and
registers nothing: the table of names is ``fusion.OPERATORS``.

Gradients in the weights take every choice (an order, a sign, a subspace) as given: choices are flat
between their jumps, and the derivative of singular vectors is infinite where members are identical.
"""

import inspect
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
        statistic: what ``fn`` needs to know of the members besides themselves, as its argument
            ``statistic``; the name is for messages.
        max_members: how many it can fuse at most; None is any number.
        fixed_point: identical members give that member, at default settings.
        permutation_invariant: the order of members, with their weights, is of no consequence.
        identity_for_one: a single member comes back, at default settings.
        basis_invariant: ``A Q, Q^-1 B`` gives what ``A, B`` does. False only for operators on
            factors, which are here for comparison.
        sign_equivariant: members with some rows or columns of the other sign give the result with
            those rows or columns of the other sign, as singular vectors have no sign of their own.
        homogeneous: the result scales with the sum of the weights.
        layerwise: a layer's result depends on that layer alone, at default settings.
        transforms: applied to the result, left to right.
    """

    name: str
    fn: Callable[..., Any]
    source: str
    lift: Literal["module", "tree"]
    stream: bool = False
    stochastic: bool = False
    statistic: str | None = None
    max_members: int | None = None
    fixed_point: bool = True
    permutation_invariant: bool = True
    identity_for_one: bool = True
    basis_invariant: bool = True
    sign_equivariant: bool = True
    homogeneous: bool = True
    layerwise: bool = True
    transforms: tuple[Callable[[Adapter], Adapter], ...] = ()

    @property
    def hyperparameters(self) -> dict[str, Hyperparameter]:
        """Name -> type and default: the signature of ``fn`` is the schema."""
        return hyperparameters_of(self.fn)

    @property
    def numbers(self) -> list[str]:
        """Hyper-parameters that may be traced: swept under vmap, or learned."""
        return [name for name, hyper in self.hyperparameters.items() if hyper.takes_arrays]

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

    @property
    def needs_key(self) -> bool:
        """Whether it cannot do without a key at any setting."""
        key = inspect.signature(self.fn).parameters.get("key")
        return key is not None and key.default is key.empty

    def __call__(
        self,
        stacked: Adapter,
        *,
        weights: Float[Array, " _"] | Sequence[float] | None = None,
        key: Key[Array, ""] | Mapping[str, Key[Array, " L"]] | None = None,
        statistic: Mapping[str, Float[Array, "S L ..."]] | None = None,
        **settings: Any,
    ) -> Adapter:
        """Fuse the members into one adapter.

        Args:
            stacked: LoraPairs with leaves [S, L, I, R] and [S, L, R, O].
            weights: one a member [S], 1/S each by default. The result scales with their sum.
            key: randomness, for a stochastic operator; or module -> ``layer_keys``, for one of
                modules that is given some layers of an adapter.
            statistic: module -> [S, L, ...], for an operator that needs one.
            **settings: see ``hyperparameters``.

        Raises:
            UserError: dense members, another number of weights than of members, too many members,
                a wrong setting, a key or a statistic missing or given in vain.
        """
        resolved = self.resolve(settings)
        members = num_members(stacked)
        if self.max_members is not None and members > self.max_members:
            raise UserError(f"{self.name} fuses {self.max_members} members at most, not {members}")
        pairs = _check_low_rank(stacked)
        resolved["weights"] = _check_weights(weights, members)
        _check_key(self, key)
        _check_statistic(self, statistic, pairs)
        exact = jax.tree.map(lambda x: x.astype(jnp.promote_types(x, jnp.float32)), pairs)
        lifted = self._over_tree if self.lift == "tree" else self._over_modules
        fused = lifted(exact, key=key, statistic=statistic, **resolved)
        return {module: _cast(update, pairs[module]) for module, update in fused.items()}

    def _over_tree(self, stacked: dict[str, LoraPair], **arguments: Any) -> Adapter:
        fused = self.fn(stacked, **_given(arguments))
        for transform in self.transforms:
            fused = transform(fused)
        return fused

    def _over_modules(
        self,
        stacked: dict[str, LoraPair],
        *,
        key: Key[Array, ""] | Mapping[str, Key[Array, " L"]] | None,
        statistic: Mapping[str, Array] | None,
        **arguments: Any,
    ) -> Adapter:
        """Layer by layer, transforms included, so that no module has all its layers dense."""

        def one_layer(at_layer: tuple[LoraPair, dict[str, Array]]) -> LoraPair | DenseDelta:
            pair, extra = at_layer
            update = self.fn(pair, **arguments, **extra)
            for transform in self.transforms:
                alone = jax.tree.map(lambda leaf: leaf[None], update)
                update = jax.tree.map(lambda leaf: leaf[0], transform({"": alone})[""])
            return update

        fused: Adapter = {}
        for module, pair in stacked.items():
            by_layer = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), pair)
            extra = {}
            if isinstance(key, Mapping):
                extra["key"] = key[module]
            elif key is not None:
                extra["key"] = layer_keys(key, module, by_layer[0].shape[0])
            if statistic is not None:
                extra["statistic"] = statistic[module].swapaxes(0, 1)
            over_layers = jax.lax.map if self.stream else _vmap
            fused[module] = over_layers(one_layer, (by_layer, extra))
        return fused


def layer_keys(key: Key[Array, ""], module: str, layers: int) -> Key[Array, " L"]:
    """The keys of a module's layers: from its name, so that other modules do not matter."""
    return jax.random.split(jax.random.fold_in(key, crc32(module.encode())), layers)


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

    An operator of modules applies them layer by layer, as ``{"": update}`` with L = 1. The declared
    promises stay those of ``op``.
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


def _check_key(op: Operator, key: object) -> None:
    if key is not None and not op.stochastic:
        raise UserError(f"{op.name} is not stochastic and takes no key")
    if key is None and op.needs_key:
        raise UserError(f"{op.name} is stochastic and needs a key; pass key=jax.random.key(0)")


def _check_statistic(
    op: Operator, statistic: Mapping[str, Array] | None, pairs: Mapping[str, LoraPair]
) -> None:
    if statistic is None:
        if op.statistic is not None:
            raise UserError(f"{op.name} needs statistic={{module: {op.statistic}}}")
        return
    if op.statistic is None:
        raise UserError(f"{op.name} takes no statistic")
    for module, pair in pairs.items():
        if module not in statistic:
            raise UserError(f"{op.name}: the statistic lacks module {module}")
        if statistic[module].shape[:2] != pair.lora_a.shape[:2]:
            raise UserError(
                f"{op.name}: the statistic of {module} has shape {list(statistic[module].shape)}, "
                f"the members have [S, L] = {list(pair.lora_a.shape[:2])}"
            )


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    """Without a key or a statistic that is not there: the function may not take one."""
    return {k: v for k, v in arguments.items() if v is not None or k not in ("key", "statistic")}


def _cast(update: LoraPair | DenseDelta, like: LoraPair) -> LoraPair | DenseDelta:
    return jax.tree.map(lambda leaf: leaf.astype(like.lora_a.dtype), update)


def _vmap(one_layer: Callable[[Any], Any], stacked: Any) -> Any:
    return jax.vmap(one_layer)(stacked)
