"""The ways to divide a step's work among a machine's devices, and what each is guessed to take."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType

from lorafuse_jax.lora import adaptable_modules
from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.decoder import Remat
from lorafuse_jax.models.hub import Model
from lorafuse_jax.models.quantized import Quantization
from lorafuse_jax.parallel.mesh import AXES, MeshShape
from lorafuse_jax.plan.guess import Cut, Guess, Held, Work, guess
from lorafuse_jax.plan.machines import Machine
from lorafuse_jax.plan.recomputed import recomputed_flops
from lorafuse_jax.training.flops import StepWork, needed_flops
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.placement import ONE_DEVICE, Placement, said_where
from lorafuse_jax.workflow.shaped_step import seed_shapes, shaped_model
from lorafuse_jax.workflow.throughput import model_size
from lorafuse_jax.workflow.train_config import TrainConfig

POLICIES: tuple[Remat, ...] = ("nothing", "projections", "layers")
SEARCHED: tuple[Remat, ...] = ("projections", "layers")
"""To store everything saves one product of attention and costs several times the memory, so that it
is only looked at where it is asked for."""


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What is to be planned.

    Attributes:
        model: name, for messages and the command line.
        family: module of ``models.families``.
        config: of the model.
        machine: what it is to run on.
        seeds: S.
        rank: of every seed's updates, on all linear layers.
        batch: examples of each seed in a step.
        length: tokens of each.
        answer: of these, how many have a loss.
        quantization: of the base.
        mesh: the only one to look at; and so for the next three. None looks at all.
        remat: what is stored.
        seeds_per_pass: seeds at once.
        micro_batches: parts of a batch.
    """

    model: str
    family: ModuleType
    config: DecoderConfig
    machine: Machine
    seeds: int
    rank: int
    batch: int
    length: int
    answer: int
    quantization: Quantization | None = None
    mesh: MeshShape | None = None
    remat: Remat | None = None
    seeds_per_pass: int | None = None
    micro_batches: int | None = None

    @property
    def dtype(self) -> jnp.dtype:
        """Of the base, as training takes it there."""
        return jnp.dtype(jnp.float32 if self.machine.platform == "cpu" else jnp.bfloat16)

    def train_config(self, cut: Cut, seeds: int | None = None) -> TrainConfig:
        """Of the run that is planned."""
        return TrainConfig(
            model=self.model,
            data="",
            seeds=tuple(range(seeds or self.seeds)),
            rank=self.rank,
            examples_per_step=self.batch,
            micro_batches=cut.micro_batches,
            seeds_per_pass=cut.seeds_per_pass,
            remat=cut.remat,
            quantization=self.quantization,
        )

    def shaped_model(self, placement: Placement) -> Model:
        """The model, laid out."""
        return shaped_model(
            self.model,
            self.family,
            self.config,
            placement,
            dtype=self.dtype,
            quantization=self.quantization,
        )


WHOLE = Cut(mesh=MeshShape(), remat="nothing", seeds_per_pass=1, micro_batches=1)


class Search:
    """All cuts of a request's work, and what they take; nothing is compiled."""

    def __init__(self, request: PlanRequest) -> None:
        self._request = request
        model, config = request.shaped_model(ONE_DEVICE), request.train_config(WHOLE, 1)
        self._one_seed = seed_shapes(config, model)
        self._size = model_size(model, self._one_seed.adapter)
        modules = adaptable_modules(model.params)
        tokens = request.seeds * request.batch * request.length
        add = {
            policy: recomputed_flops(
                request.config,
                policy,
                modules,
                dict.fromkeys(modules, request.rank),
                tokens=tokens,
                pairs=tokens * request.length,
            )
            for policy in POLICIES
        }
        self.recomputed: dict[Remat, float] = add
        self._held = lru_cache(None)(self._of_one_seed)

    def needed(self, pairs_of_an_example: int) -> float:
        """Operations of a step without recomputation.

        Args:
            pairs_of_an_example: of tokens in attention: T x T as the program multiplies them, or
                T (T + 1) / 2 that see each other.
        """
        request = self._request
        examples = request.seeds * request.batch
        pairs = examples * pairs_of_an_example
        work = StepWork(examples * request.length, examples * request.answer, pairs, pairs)
        return needed_flops(self._size, work)

    def work(self, seeds: int | None = None) -> Work:
        """Of a step of so many seeds."""
        request, count = self._request, seeds or self._request.seeds
        share = count / request.seeds
        return Work(
            config=request.config,
            seeds=count,
            examples=request.batch,
            length=request.length,
            flops=share * self.needed(request.length**2),
            recomputed={key: share * value for key, value in self.recomputed.items()},
            item=request.dtype.itemsize,
        )

    def cuts(self, seeds: int | None = None) -> Iterator[Cut]:
        """Those that divide everything, and are what the request asks for."""
        request, count = self._request, seeds or self._request.seeds
        for mesh in [request.mesh] if request.mesh else self._meshes(count):
            for remat in [request.remat] if request.remat else SEARCHED:
                for at_once in _divisors(count):
                    for parts in _divisors(request.batch // mesh.data):
                        cut = Cut(
                            mesh=mesh, remat=remat, seeds_per_pass=at_once, micro_batches=parts
                        )
                        if at_once % mesh.seed == 0 and self._asked_for(cut):
                            yield cut

    def guess(self, cut: Cut, seeds: int | None = None) -> Guess:
        """What a cut takes."""
        count, mesh = seeds or self._request.seeds, cut.mesh
        one = self._held(mesh.data, mesh.model, mesh.fsdp)
        own = count // mesh.seed
        held = Held(one.weights, one.layer, own * one.adapters, own * one.optimizer)
        return guess(self.work(count), cut, held)

    def check(self) -> None:
        """Raise UserError for a mesh that takes other devices, or does not divide the work."""
        request = self._request
        mesh, machine = request.mesh, request.machine
        if mesh is not None and mesh.devices != machine.devices:
            raise UserError(
                f"--mesh {mesh} takes {mesh.devices} devices, and {machine.name} has "
                f"{machine.devices}: the product of its axes must be that number"
            )
        if next(self.cuts(), None) is None:
            raise UserError(
                f"nothing divides {request.seeds} seeds of {request.batch} examples as is asked "
                f"for: the mesh's seed axis must divide the seeds and --seeds-per-pass, its data "
                f"axis a micro-batch, and its model axis the {request.config.num_heads} heads; "
                "leave out --mesh, --seeds-per-pass or --micro-batches to see what does"
            )

    def _asked_for(self, cut: Cut) -> bool:
        request = self._request
        wanted = ((request.seeds_per_pass, cut.seeds_per_pass),)
        wanted += ((request.micro_batches, cut.micro_batches),)
        heads = request.config.num_heads % cut.mesh.model == 0
        whole = request.batch % (cut.mesh.data * cut.micro_batches) == 0
        # Either makes a pass smaller; seeds come first, since they need no gradients added.
        once = cut.micro_batches == 1 or cut.seeds_per_pass == cut.mesh.seed
        free = request.micro_batches is not None or request.seeds_per_pass is not None
        return heads and whole and (once or free) and all(a in (None, b) for a, b in wanted)

    def _meshes(self, seeds: int) -> Iterator[MeshShape]:
        devices = self._request.machine.devices
        for seed in _divisors(math.gcd(seeds, devices)):
            for data in _divisors(math.gcd(self._request.batch, devices // seed)):
                model = devices // seed // data
                for fsdp in (False, True) if data > 1 else (False,):
                    yield MeshShape(seed=seed, data=data, model=model, fsdp=fsdp)

    def _of_one_seed(self, data: int, model: int, fsdp: bool) -> Held:
        mesh = AbstractMesh((1, data, model), AXES, axis_types=(AxisType.Auto,) * len(AXES))
        config = self._request.config
        placement, gathered = Placement(mesh, fsdp), Placement(mesh, False)
        base = self._request.shaped_model(placement).params
        layers = shard_bytes(self._request.shaped_model(gathered).params["layers"])
        state = placement.trained(config, self._one_seed, said_where)
        return Held(
            shard_bytes(base),
            layers // config.num_layers,
            shard_bytes(state.adapter),
            shard_bytes(state.opt_state),
        )


def shard_bytes(tree: object) -> int:
    """Of the part of a tree of shapes that lies on one device."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape
        total += math.prod(shape) * jnp.dtype(leaf.dtype).itemsize
    return total


def _divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]
