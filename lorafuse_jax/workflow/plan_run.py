"""``lorafuse plan``: the best way to divide a step among a machine's devices, compiled for it."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import jax

from lorafuse_jax import memory
from lorafuse_jax.parallel.mesh import MeshShape, make_mesh
from lorafuse_jax.plan.compiled import Demand, compile_and_read
from lorafuse_jax.plan.devices import devices_of
from lorafuse_jax.plan.guess import Cut, Guess
from lorafuse_jax.plan.machines import Chip
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.placement import Placement
from lorafuse_jax.workflow.plan_search import PlanRequest, Search
from lorafuse_jax.workflow.planned import Plan, cut_line, seconds_of, work_of
from lorafuse_jax.workflow.shaped_step import shaped_step

ROOM = 0.05
"""Share of a device's memory that a plan leaves free."""

GUESSED_ROOM = 0.1
"""The same while there is only a guess."""

TRIES = 4
"""Compilations at most, each of a minute or so."""

MOST_SEEDS = 4096

NO_ROOM = ("RESOURCE_EXHAUSTED", "Ran out of memory")

FULL, PASS = 0.02, 0.005
"""What a full memory, and each pass over a part of the work, count as, as shares of the time: of
ways that are equally fast the smaller and simpler."""

OPERATIONS_A_BYTE = 10
"""What a machine does while it moves a byte, where that is not known: for an order alone."""


def make_plan(
    request: PlanRequest, *, estimate: bool, flops: float | None, say: Callable[[str], None]
) -> Plan:
    """Search, compile the most promising, and take the first that fits.

    Args:
        request: what is to be planned.
        estimate: compile nothing.
        flops: a device's operations a second, where no data sheet has them.
        say: hears what is being compiled.

    Raises:
        UserError: nothing divides the work as is asked for, or nothing fits.
    """
    search = Search(request)
    search.check()
    chip = request.machine.chip
    ranked = _ranked(search, chip, flops)
    if not estimate:
        ranked = _laid_out(request, ranked)
    fitting = [pair for pair in ranked if pair[1].peak <= (1 - GUESSED_ROOM) * chip.memory]
    if estimate:
        if not fitting:
            raise _nothing_fits(request, min(guess.peak for _, guess in ranked))
        cut, guess = fitting[0]
        return _plan(search, request, cut, guess, None, flops, 1.0, ())
    least = min(guess.peak - guess.temporary for _, guess in ranked)
    if least > chip.memory:
        raise _nothing_fits(request, float(least))
    tried: list[tuple[Cut, float | None]] = []
    factor, smallest = 1.0, min(ranked, key=lambda pair: pair[1].peak)
    for _ in range(TRIES):
        left = [pair for pair in fitting if pair[0] not in [cut for cut, _ in tried]]
        left = [pair for pair in left if _scaled(pair[1], factor).peak <= (1 - ROOM) * chip.memory]
        if not left and smallest[0] in [cut for cut, _ in tried]:
            break
        cut, guess = left[0] if left else smallest
        say(f"compiling {cut_line(cut)}")
        found = compile_cut(request, cut)
        if found is not None:
            measured = (found.peak - guess.peak + guess.temporary) / guess.temporary
            if found.peak <= (1 - ROOM) * chip.memory:
                return _plan(search, request, cut, guess, found, flops, measured, tuple(tried))
            factor = max(factor, measured)
        else:
            factor *= 1.5
        tried.append((cut, None if found is None else float(found.peak)))
    raise _nothing_fits(request, tried[-1][1] or smallest[1].peak)


def _laid_out(request: PlanRequest, ranked: list[tuple[Cut, Guess]]) -> list[tuple[Cut, Guess]]:
    """Those whose mesh jax can lay over the machine: whole axes of a torus make one of the mesh."""
    can: dict[MeshShape, bool] = {}
    for shape in {cut.mesh for cut, _ in ranked}:
        try:
            make_mesh(shape, devices_of(request.machine))
            can[shape] = True
        except UserError:
            can[shape] = False
    if not any(can.values()):
        raise UserError(
            f"no mesh that divides the work can be laid over {request.machine.topology}; take "
            "another --mesh, another number of --seeds or another --batch"
        )
    return [pair for pair in ranked if can[pair[0].mesh]]


def compile_cut(request: PlanRequest, cut: Cut, seeds: int | None = None) -> Demand | None:
    """What the compiled step takes of each device; None if the compiler finds no room for it."""
    mesh = make_mesh(cut.mesh, devices_of(request.machine))
    placement = Placement(mesh, cut.mesh.fsdp)
    config = request.train_config(cut, seeds)
    model = request.shaped_model(placement)
    step = shaped_step(config, model, placement, request.length, request.answer)
    try:
        with placement.active():
            lowered = step.trace().lower()
            return compile_and_read(lowered, mesh.shape, dumped=request.machine.platform == "tpu")
    except jax.errors.JaxRuntimeError as error:
        if any(word in str(error) for word in NO_ROOM):
            return None
        raise


def _ranked(search: Search, chip: Chip, flops: float | None) -> list[tuple[Cut, Guess]]:
    """Fastest first."""
    pairs = [(cut, search.guess(cut)) for cut in search.cuts()]

    rate = chip.flops or flops or 1.0
    usual = rate / OPERATIONS_A_BYTE
    rated = replace(chip, bandwidth=chip.bandwidth or usual, links=chip.links or usual)

    def cost(pair: tuple[Cut, Guess]) -> float:
        cut, guess = pair
        passes = cut.micro_batches * search.work().seeds // cut.seeds_per_pass
        share = FULL * guess.peak / chip.memory + PASS * passes
        return seconds_of(guess, rated, flops).apart * (1 + share)

    return sorted(pairs, key=cost)


def _scaled(guess: Guess, factor: float) -> Guess:
    return replace(guess, temporary=factor * guess.temporary)


def _plan(
    search: Search,
    request: PlanRequest,
    cut: Cut,
    guess: Guess,
    found: Demand | None,
    flops: float | None,
    factor: float,
    tried: tuple[tuple[Cut, float | None], ...],
) -> Plan:
    length = request.length
    return Plan(
        request=request,
        cut=cut,
        guess=guess,
        demand=found,
        seconds=seconds_of(work_of(guess, found), request.machine.chip, flops),
        needed=search.needed(length * length),
        causal=search.needed(length * (length + 1) // 2),
        recomputed=search.recomputed[cut.remat],
        most_seeds=_most_seeds(search, request, factor),
        tried=tried,
        process=_process(request) if found is not None else 0.0,
    )


def _process(request: PlanRequest) -> float:
    on_host = request.machine.platform == "cpu"
    return memory.resident_bytes() / request.machine.devices if on_host else 0.0


def _most_seeds(search: Search, request: PlanRequest, factor: float) -> int:
    """Of which some cut fits, if what is made meanwhile is ``factor`` times the guess."""
    limit = (1 - ROOM) * request.machine.chip.memory

    def fits(seeds: int) -> bool:
        guesses = (search.guess(cut, seeds) for cut in search.cuts(seeds))
        return any(_scaled(guess, factor).peak <= limit for guess in guesses)

    return max(_fitting(request.seeds, fits), default=request.seeds)


def _fitting(start: int, fits: Callable[[int], bool]) -> Iterator[int]:
    """Numbers that fit: doubled as long as they do, then halved in between."""
    low, high = 0, start
    while high <= MOST_SEEDS and fits(high):
        yield high
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            yield middle
            low = middle
        else:
            high = middle


def _nothing_fits(request: PlanRequest, peak: float) -> UserError:
    machine = request.machine
    return UserError(
        f"{request.model} with {request.seeds} seeds does not fit on {machine.name}: each of its "
        f"{machine.devices} devices would need {peak / 1e9:.1f} GB at least, with room, and has "
        f"{machine.chip.memory / 1e9:.1f}; take more devices, --quantization int8 or nf4, fewer "
        "--seeds, a smaller --batch or a shorter --length"
    )
