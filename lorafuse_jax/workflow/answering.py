"""Many models answer the questions of one benchmark, in one batch over one base."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial

from lorafuse_jax.bank import make_bank
from lorafuse_jax.evaluation.archive import Archive
from lorafuse_jax.evaluation.records import Answer, append
from lorafuse_jax.generation.request import Answer as Part
from lorafuse_jax.generation.request import Engine, Request
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.generation.stops import cut, ends_at_stop_strings
from lorafuse_jax.models.hub import Model
from lorafuse_jax.workflow.benchmarks import Posed
from lorafuse_jax.workflow.compared import Member, hash_of_update
from lorafuse_jax.workflow.placement import ONE_DEVICE, Placement
from lorafuse_jax.workflow.progress import meter


@dataclass(frozen=True)
class Asked:
    """A benchmark, ready to be answered.

    Attributes:
        posed: its questions.
        requests: of each question.
        archive: where answers go.
        engine: the model, which ends answers as the benchmark wants.
    """

    posed: Posed
    requests: list[list[Request]]
    archive: Archive
    engine: Engine


def answer_all(
    asked: Asked,
    model: Model,
    members: list[Member],
    lanes: int,
    counts: Counter[str],
    placement: Placement = ONE_DEVICE,
) -> None:
    """Every member's answers to what it has not answered yet, into the archive as they come.

    Args:
        asked: the benchmark.
        model: what the members are over.
        members: base, seeds, fused ones.
        lanes: rows of each that are decoded at once.
        counts: of answers and tokens, added to.
        placement: of the model.
    """
    weights = [_weights_of(member, model) for member in members]
    answered = {key: one.weights for key, one in asked.archive.answers().items()}
    questions, requests = asked.posed.questions, asked.requests
    open_parts = [
        [
            (number, part)
            for number, question in enumerate(questions)
            if answered.get((question.id, member.name)) != own
            for part in range(len(requests[number]))
        ]
        for member, own in zip(members, weights, strict=True)
    ]
    decode = partial(model.tokenizer.decode, skip_special_tokens=True)
    stops = asked.posed.convention.decoding.stop_strings
    parts = serve(
        asked.engine,
        model.params,
        placement.everywhere(make_bank([member.adapter for member in members])),
        [[requests[number][part] for number, part in own] for own in open_parts],
        lanes=lanes,
        ended=ends_at_stop_strings(decode) if stops else None,
    )
    collected: dict[tuple[int, int], dict[int, Part]] = defaultdict(dict)
    total = len(members) * len(questions)
    left = sum(len({number for number, _ in own}) for own in open_parts)
    with placement.active(), meter(asked.posed.label, total, total - left) as progress:
        for one in parts:
            member = members[one.member]
            number, part = open_parts[one.member][one.request]
            own = collected[one.member, number]
            own[part] = one
            if len(own) == len(requests[number]):
                del collected[one.member, number]
                in_order = [own[part] for part in range(len(own))]
                answer = _answer(asked, number, member, weights[one.member], in_order, decode)
                append(asked.archive.answers_path, [answer])
                counts["answers"] += 1
                counts["tokens"] += sum(answer.generated)
                progress.advance(1, member.name)


def _weights_of(member: Member, model: Model) -> str:
    own = model.fingerprint if member.weights else hash_of_update(member.adapter)
    return own[:16]


def _answer(
    asked: Asked, number: int, member: Member, weights: str, parts: list[Part], decode
) -> Answer:
    requests = asked.requests[number]
    generated = [part for part, one in zip(parts, requests, strict=True) if one.max_new_tokens]
    scored = [part for part, one in zip(parts, requests, strict=True) if len(one.reference)]
    stops = asked.posed.convention.decoding.stop_strings
    return Answer(
        id=asked.posed.questions[number].id,
        model=member.name,
        kind=member.kind,
        weights=weights,
        texts=[cut(decode(part.tokens), stops) for part in generated],
        generated=[len(part.tokens) for part in generated],
        log_probs=[float(part.log_probs.sum()) for part in scored],
        tokens=[len(part.log_probs) for part in scored],
        greedy=[bool(part.best.all()) for part in scored],
    )
