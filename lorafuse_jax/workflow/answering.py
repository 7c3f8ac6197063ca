"""Many models answer the questions of one benchmark, in one batch over one base."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256

from lorafuse_jax.bank import make_bank
from lorafuse_jax.evaluation.archive import Archive
from lorafuse_jax.evaluation.records import Answer, append
from lorafuse_jax.evaluation.scores import Kind
from lorafuse_jax.generation.request import Answer as Part
from lorafuse_jax.generation.request import Engine, Request
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.generation.stops import cut, ends_at_stop_strings
from lorafuse_jax.models.hub import Model
from lorafuse_jax.types import Adapter
from lorafuse_jax.workflow.benchmarks import Posed
from lorafuse_jax.workflow.compared import Member, lanes_for, over_base, weights_of
from lorafuse_jax.workflow.placement import ONE_DEVICE, Placement
from lorafuse_jax.workflow.progress import meter

ENSEMBLE = "logit ensemble"
"""The seeds answering together, by the mean of their logits at every token (2310.00035)."""


@dataclass(frozen=True)
class Asked:
    """A benchmark, ready to be answered.

    Attributes:
        posed: its questions.
        requests: of each question.
        archive: where answers go.
        engine: the model, which ends answers as the benchmark wants.
        elsewhere: weights and question -> what was answered to it in another run.
    """

    posed: Posed
    requests: list[list[Request]]
    archive: Archive
    engine: Engine
    elsewhere: Mapping[tuple[str, str], Answer]


@dataclass(frozen=True)
class _Speaker:
    """Whoever gives one answer to a question: a member, or an ensemble."""

    name: str
    kind: Kind
    weights: str


def answer_all(
    asked: Asked,
    model: Model,
    members: list[Member],
    rows: int,
    counts: Counter[str],
    placement: Placement = ONE_DEVICE,
) -> None:
    """Every member's answers to what it has not answered yet, into the archive as they come.

    What was answered with the same weights under another name is taken over.

    Args:
        asked: the benchmark.
        model: what the members are over.
        members: base, seeds, fused ones.
        rows: that are decoded at once.
        counts: of answers and tokens, added to.
        placement: of the model.
    """
    everyone = [_Speaker(one.name, one.kind, weights_of(one, model)) for one in members]
    _take_over(asked, everyone)
    # Of several with the same weights one is asked.
    by_weights = {one.weights: n for n, one in reversed(list(enumerate(everyone)))}
    queues = {n: _open(asked, everyone[n]) for n in sorted(by_weights.values())}
    waiting = [n for n, queue in queues.items() if queue]
    if waiting:
        some = [members[n] for n in waiting]
        base, adapters = over_base(model, some)
        speakers, open_parts = [everyone[n] for n in waiting], [queues[n] for n in waiting]
        lanes = lanes_for(some, rows)
        _answer(asked, base, adapters, speakers, open_parts, lanes, counts, placement)
    _take_over(asked, everyone)


def answer_together(
    asked: Asked,
    model: Model,
    members: list[Member],
    rows: int,
    counts: Counter[str],
    placement: Placement = ONE_DEVICE,
) -> None:
    """As ``answer_all``, of the members as one ensemble, ``ENSEMBLE``.

    Args:
        asked: the benchmark.
        model: what all members are over.
        members: two or more, none apart.
        rows: of all members, that are decoded at once.
        counts: of answers and tokens, added to.
        placement: of the model.
    """
    each = sorted(weights_of(member, model) for member in members)
    weights = sha256(f"ensemble {' '.join(each)}".encode()).hexdigest()[:16]
    ensemble = _Speaker(ENSEMBLE, "ensemble", weights)
    _take_over(asked, [ensemble])
    if queue := _open(asked, ensemble):
        adapters = [member.adapter for member in members]
        lanes = lanes_for(members, rows)
        _answer(asked, model, adapters, [ensemble], [queue], lanes, counts, placement)


def _open(asked: Asked, speaker: _Speaker) -> list[tuple[int, int]]:
    """(question, part) of what is not answered with these weights."""
    answered = {key: one.weights for key, one in asked.archive.answers().items()}
    return [
        (number, part)
        for number, question in enumerate(asked.posed.questions)
        if answered.get((question.id, speaker.name)) != speaker.weights
        for part in range(len(asked.requests[number]))
    ]


def _take_over(asked: Asked, speakers: Sequence[_Speaker]) -> None:
    """Answers that are known, from under other names and from elsewhere."""
    known = {**asked.elsewhere, **asked.archive.by_weights()}
    answered = {key: one.weights for key, one in asked.archive.answers().items()}
    taken = [
        replace(found, model=one.name, kind=one.kind)
        for one in speakers
        for question in asked.posed.questions
        if answered.get((question.id, one.name)) != one.weights
        and (found := known.get((one.weights, question.id)))
    ]
    if taken:
        append(asked.archive.answers_path, taken)


def _answer(
    asked: Asked,
    model: Model,
    adapters: list[Adapter],
    speakers: Sequence[_Speaker],
    queues: Sequence[list[tuple[int, int]]],
    lanes: int,
    counts: Counter[str],
    placement: Placement,
) -> None:
    """Serve what is open; one speaker of several adapters is their ensemble."""
    together = len(speakers) < len(adapters)
    decode = partial(model.tokenizer.decode, skip_special_tokens=True)
    stops = asked.posed.convention.decoding.stop_strings
    requests = [[asked.requests[number][part] for number, part in queue] for queue in queues]
    parts = serve(
        asked.engine,
        model.params,
        placement.everywhere(make_bank(adapters)),
        requests * len(adapters) if together else requests,
        lanes=lanes,
        ensemble=together,
        ended=ends_at_stop_strings(decode) if stops else None,
    )
    left = sum(len({number for number, _ in queue}) for queue in queues)
    total = len(speakers) * len(asked.posed.questions)
    with placement.active(), meter(asked.posed.label, total, total - left) as progress:
        for speaker, number, in_order in _whole(asked, parts, queues):
            answer = _made(asked, number, speakers[speaker], in_order, decode)
            append(asked.archive.answers_path, [answer])
            counts["answers"] += 1
            counts["tokens"] += sum(answer.generated)
            progress.advance(1, answer.model)


def _whole(
    asked: Asked, parts: Iterator[Part], queues: Sequence[list[tuple[int, int]]]
) -> Iterator[tuple[int, int, list[Part]]]:
    """Speaker, question and all parts of its answer, as soon as the last one is there."""
    collected: dict[tuple[int, int], dict[int, Part]] = defaultdict(dict)
    for one in parts:
        number, part = queues[one.member][one.request]
        own = collected[one.member, number]
        own[part] = one
        if len(own) == len(asked.requests[number]):
            del collected[one.member, number]
            yield one.member, number, [own[part] for part in range(len(own))]


def _made(asked: Asked, number: int, speaker: _Speaker, parts: list[Part], decode) -> Answer:
    requests = asked.requests[number]
    generated = [part for part, one in zip(parts, requests, strict=True) if one.max_new_tokens]
    scored = [part for part, one in zip(parts, requests, strict=True) if len(one.reference)]
    stops = asked.posed.convention.decoding.stop_strings
    return Answer(
        id=asked.posed.questions[number].id,
        model=speaker.name,
        kind=speaker.kind,
        weights=speaker.weights,
        texts=[cut(decode(part.tokens), stops) for part in generated],
        generated=[len(part.tokens) for part in generated],
        log_probs=[float(part.log_probs.sum()) for part in scored],
        tokens=[len(part.log_probs) for part in scored],
        greedy=[bool(part.best.all()) for part in scored],
    )
