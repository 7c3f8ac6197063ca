"""``lorafuse evaluate``: base, seeds and fused adapters answer the same questions over one base."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lorafuse_jax.bank import make_bank
from lorafuse_jax.data.encode import Encoded, encode_split
from lorafuse_jax.data.rows import Example
from lorafuse_jax.evaluation.answers import extract, is_correct
from lorafuse_jax.evaluation.predictions import Kind, Prediction, append, done
from lorafuse_jax.generation.request import Answer, Engine, Request
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.models.hub import Model
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.text_generation import ROW_BUDGET, make_engine
from lorafuse_jax.types import Adapter, UserError
from lorafuse_jax.workflow.inputs import load_any_model, load_any_task
from lorafuse_jax.workflow.members import base_of, load_update, members_trained
from lorafuse_jax.workflow.method_full import is_whole_model
from lorafuse_jax.workflow.progress import meter
from lorafuse_jax.workflow.run_lock import locked


@dataclass(frozen=True)
class Member:
    """One model of the comparison.

    Attributes:
        name: as in tables.
        kind: what it is.
        adapter: what it adds to the base.
        weights: the folder of its own weights, where it is no adapter of the base.
    """

    name: str
    kind: Kind
    adapter: Adapter
    weights: Path | None = None


@dataclass(frozen=True)
class Questions:
    """A split of a task, ready to be asked.

    Attributes:
        task: ``name/split``, as in tables.
        examples: what is asked.
        encoded: the same, as token ids.
    """

    task: str
    examples: list[Example]
    encoded: list[Encoded]

    @property
    def max_new_tokens(self) -> int:
        """Where an answer that does not end is cut."""
        return math.ceil(1.25 * max(len(one.completion) for one in self.encoded))


def evaluate(
    run: RunFolder, tasks: list[str], limit: int | None = None, rows: int = ROW_BUDGET
) -> None:
    """Let every model of the run answer, and score the references; adds to predictions.jsonl.

    Args:
        run: with its adapters, and fused ones.
        tasks: ``NAME`` (its test split) or ``NAME/SPLIT``; empty is the run's own task.
        limit: the first so many examples of each split; None is all.
        rows: decoded at once, over all models; fewer take less memory.

    Raises:
        UserError: something in the run or the tasks is missing or does not fit, or decoding would
            need more memory than there is; before anything is asked.
    """
    model, members = load_evaluated(run)
    config = run.config()
    names = tasks or [config["data"]]
    asked = [prepare(name, model, limit, config["template"]) for name in names]
    engine = make_engine(model)
    with locked(run.path):
        for questions in asked:
            for weights, some in _by_weights(model, members):
                _ask(run, engine, weights, some, questions, lanes_for(some, rows))


def load_evaluated(run: RunFolder) -> tuple[Model, list[Member]]:
    """The base model of a run, and all that is compared over it.

    Raises:
        UserError: the model is not what it was, or an adapter does not fit it.
    """
    model = base_of(run)
    return model, load_comparison(run, model)


def lanes_for(members: list[Member], rows: int) -> int:
    """Rows of each member that are decoded at once."""
    return max(1, rows // len(members))


def load_comparison(run: RunFolder, model: Model) -> list[Member]:
    """The base model, every seed and every fused adapter of a run."""
    members = [Member("base", "base", {})]
    for seed in members_trained(run):
        path, name = run.adapter_path(seed), f"seed-{seed}"
        if is_whole_model(path):
            members.append(Member(name, "seed", {}, path))
        else:
            members.append(Member(name, "seed", load_update(path, model)))
    for name in run.fused_names():
        members.append(Member(name, "fused", load_update(run.fused_path(name), model)))
    return members


def _by_weights(model: Model, members: list[Member]) -> Iterator[tuple[Model, list[Member]]]:
    """All that are over the base together; those with weights of their own one after the other."""
    yield model, [member for member in members if member.weights is None]
    for member in members:
        if member.weights is not None:
            yield load_any_model(str(member.weights)), [member]


def prepare(name: str, model: Model, limit: int | None, template: str) -> Questions:
    """The questions of ``NAME`` or ``NAME/SPLIT``, under the template that was trained with.

    Raises:
        UserError: there is no such split, or an example has no answer to check.
    """
    head, slash, tail = name.rpartition("/")
    known = slash and tail in ("train", "validation", "test", "transfer")
    task = load_any_task(head if known else name)
    split = tail if known else "test"
    if not task.splits.get(split):
        raise UserError(f"{name}: no {split} examples; there are {', '.join(task.splits)}")
    examples = task.splits[split][:limit]
    for example in examples:
        if example.answer is None:
            raise UserError(f"{example.where}: no 'answer' to check; add one to every line")
    encoded = encode_split(
        examples,
        model.tokenizer,
        template,
        max_length=model.config.context_length,
    )
    return Questions(f"{task.name}/{split}", examples, encoded.examples)


def _ask(
    run: RunFolder,
    engine: Engine,
    model: Model,
    members: list[Member],
    questions: Questions,
    lanes: int,
) -> None:
    finished = done(run.predictions_path)
    open_numbers = [
        [
            number
            for number, example in enumerate(questions.examples)
            if (questions.task, example.id, member.name) not in finished
        ]
        for member in members
    ]
    context = model.config.context_length
    requests = [
        Request(
            one.prompt, min(questions.max_new_tokens, context - len(one.prompt)), one.completion
        )
        for one in questions.encoded
    ]
    total = len(members) * len(requests)
    answers = serve(
        engine,
        model.params,
        make_bank([member.adapter for member in members]),
        [[requests[number] for number in numbers] for numbers in open_numbers],
        lanes=lanes,
    )
    with meter(questions.task, total, total - sum(map(len, open_numbers))) as progress:
        for one in answers:
            member = members[one.member]
            number = open_numbers[one.member][one.request]
            append(run.predictions_path, [_prediction(questions, number, member, one, model)])
            progress.advance(1, member.name)


def _prediction(
    questions: Questions, number: int, member: Member, one: Answer, model: Model
) -> Prediction:
    example = questions.examples[number]
    text = model.tokenizer.decode(one.tokens, skip_special_tokens=True)
    found = extract(text)
    reference = example.answer or ""
    return Prediction(
        task=questions.task,
        id=example.id,
        model=member.name,
        kind=member.kind,
        text=text,
        prediction=found,
        reference=reference,
        correct=is_correct(found, reference),
        logprob=float(one.log_probs.sum()),
        tokens=len(questions.encoded[number].completion),
    )
