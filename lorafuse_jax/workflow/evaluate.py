"""``lorafuse evaluate``: base, seeds and fused adapters answer the same questions over one base."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from lorafuse_jax.bank import make_bank
from lorafuse_jax.evaluation.archive import Archive
from lorafuse_jax.evaluation.records import Answer, append
from lorafuse_jax.generation.request import Answer as Part
from lorafuse_jax.generation.request import Engine, Request
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.generation.stops import cut, ends_at_stop_strings
from lorafuse_jax.models.hub import Model
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.text_generation import ROW_BUDGET, make_engine
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.benchmarks import Posed, benchmark_of, pose, pose_data
from lorafuse_jax.workflow.compared import (
    Member,
    by_weights,
    hash_of_update,
    lanes_for,
    load_evaluated,
)
from lorafuse_jax.workflow.compared_subsets import subset_members
from lorafuse_jax.workflow.cost import spending
from lorafuse_jax.workflow.programs import with_programs
from lorafuse_jax.workflow.progress import console, meter
from lorafuse_jax.workflow.questions import requests_of
from lorafuse_jax.workflow.run_lock import locked


@dataclass(frozen=True)
class Asked:
    """A benchmark, ready to be answered.

    Attributes:
        posed: its questions.
        requests: of each question.
        archive: where answers go.
    """

    posed: Posed
    requests: list[list[Request]]
    archive: Archive


def evaluate(
    run: RunFolder,
    tasks: Sequence[str],
    limit: int | None = None,
    rows: int = ROW_BUDGET,
    *,
    checker: str | None = None,
    subsets: Sequence[str] = (),
    unsafe: bool = False,
) -> None:
    """Let every model of the run answer, score the answers, and keep both in ``evaluations/``.

    Args:
        run: with its adapters, and fused ones.
        tasks: benchmarks, or data sets; see ``benchmarks.pose``. Empty is the run's own task.
        limit: the first so many examples of each; None is all.
        rows: decoded at once, over all models; fewer take less memory.
        checker: how answers of data sets are compared; None is as they say, or as numbers.
        subsets: operators whose fused adapters of every subset of the seeds answer as well.
        unsafe: run programs that models wrote even where they cannot be isolated.

    Raises:
        UserError: something in the run or the tasks is missing or does not fit, programs cannot be
            isolated, or decoding would need more memory than there is; before anything is asked.
    """
    config = run.config()
    posed = [pose(name, limit, checker) for name in tasks]
    posed = posed or [pose_data(config["data"], limit, checker)]
    posed = [replace(one, benchmark=with_programs(one.benchmark, unsafe=unsafe)) for one in posed]
    for one in posed:
        if len(one.questions) < 2:
            raise UserError(f"{one.label}: one question is too few for statistics; ask two or more")
    model, members = load_evaluated(run)
    members += subset_members(run, model, subsets)
    asked = [prepare(run, one, model, config["template"]) for one in posed]
    engine = make_engine(model)
    with locked(run.path):
        for one in asked:
            one.archive.open_for(_about(one.posed, config["template"]), one.posed.questions)
            with spending(run, "evaluate", one.posed.label) as counts:
                for weights, some in by_weights(model, members):
                    _ask(one, engine, weights, some, lanes_for(some, rows), counts)
            one.archive.score(one.posed.benchmark)


def rescore(run: RunFolder, unsafe: bool = False) -> None:
    """Score all answers of a run anew; no model is needed.

    Raises:
        UserError: there are none.
    """
    with locked(run.path):
        for archive in archives_of(run):
            benchmark = with_programs(benchmark_of(archive.asked()), unsafe=unsafe)
            archive.scores_path.unlink(missing_ok=True)
            count = archive.score(benchmark)
            console.print(f"{archive.asked()['label']}: {count} answers scored")


def archives_of(run: RunFolder) -> list[Archive]:
    """What was evaluated, the first first.

    Raises:
        UserError: nothing was.
    """
    folders = {file.parent for file in run.evaluations_path.glob("*/task.json")}
    if not folders:
        raise UserError(f"{run.path} has no answers yet; lorafuse evaluate makes them")
    return [Archive(f) for f in sorted(folders, key=lambda f: (f / "task.json").stat().st_mtime)]


def prepare(run: RunFolder, posed: Posed, model: Model, template: str) -> Asked:
    """A benchmark's requests, and the folder for its answers.

    Raises:
        UserError: a question does not fit the model.
    """
    archive = Archive(run.evaluations_path / posed.label.replace("/", "-"))
    return Asked(posed, requests_of(posed, model, template), archive)


def _about(posed: Posed, template: str) -> dict:
    convention = posed.convention
    framing = template if convention.framing == "trained" else convention.framing
    return {
        "label": posed.label,
        "benchmark": posed.benchmark.name,
        "version": posed.benchmark.version,
        "framing": framing,
        "decoding": list(map(_jsonable, convention.decoding)),
        "likelihood": all(len(q.references) == 1 for q in posed.questions),
    }


def _jsonable(value):
    return list(value) if isinstance(value, tuple) else value


def _ask(
    asked: Asked,
    engine: Engine,
    model: Model,
    members: list[Member],
    lanes: int,
    counts: Counter[str],
) -> None:
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
        engine,
        model.params,
        make_bank([member.adapter for member in members]),
        [[requests[number][part] for number, part in own] for own in open_parts],
        lanes=lanes,
        ended=ends_at_stop_strings(decode) if stops else None,
    )
    collected: dict[tuple[int, int], dict[int, Part]] = defaultdict(dict)
    total = len(members) * len(questions)
    left = sum(len({number for number, _ in own}) for own in open_parts)
    with meter(asked.posed.label, total, total - left) as progress:
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
