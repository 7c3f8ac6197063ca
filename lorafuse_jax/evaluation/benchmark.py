"""What a benchmark is: rows become questions, and what a model answered becomes scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from lorafuse_jax.types import UserError

Framing = Literal["plain", "chat", "trained", "rolling"]
"""How a prompt is put to a model: as it stands, as a user's turn under the tokenizer's chat
template, or under the template that the run was trained with. ``rolling`` has no prompt: the one
reference is scored from its first token on, in windows of the model's context."""


@runtime_checkable
class Row(Protocol):
    """A row of a data set, with its place."""

    @property
    def value(self) -> Any:
        """The row itself, a mapping where the file is well-formed."""

    @property
    def where(self) -> str:
        """File and line."""

    @property
    def number(self) -> int:
        """Of the line, from 1."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, and what scorers know of it; JSON-able.

    Attributes:
        id: unique in its benchmark.
        where: file and line of the row, for messages.
        prompt: what the model is given, before any framing.
        gold: what the answer is compared with: a number as text, tests, the right choice's index.
        references: texts whose log-probability after the prompt is asked: the worked answer, or
            every choice.
        group: what results are also given by: a subject, a template; "" is none.
        turns: the chat that the prompt stands for, as (role, content) up to the question.
        form: how the answer is to be written, where conventions of a benchmark differ in it.
    """

    id: str
    where: str
    prompt: str
    gold: Any = None
    references: tuple[str, ...] = ()
    group: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    form: str = ""


class Decoding(NamedTuple):
    """How answers are generated.

    Attributes:
        max_new_tokens: where an answer that does not end is cut; 0 generates nothing; None is 1.25
            times the longest reference.
        stop_strings: end an answer, and are not part of it.
        samples: answers a question.
        temperature: 0 is greedy.
        top_p: nucleus sampling, in (0, 1].
    """

    max_new_tokens: int | None
    stop_strings: tuple[str, ...] = ()
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Convention:
    """One of the field's ways to ask a benchmark's questions.

    Attributes:
        about: one line: whose, and from where.
        prompt: ``(row, rows of the examples before it)`` -> what the model is given.
        decoding: how answers are generated.
        framing: what is put around the prompt.
        shots: worked examples before each question, from the benchmark's ``shots_split``.
        reference: ``(row)`` -> the worked answer whose log-probability is asked; None is none.
        form: how answers are to be written; a name that the benchmark's scorer knows.
    """

    about: str
    prompt: Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], str]
    decoding: Decoding
    framing: Framing = "plain"
    shots: int = 0
    reference: Callable[[Mapping[str, Any]], str] | None = None
    form: str = ""


@dataclass(frozen=True, kw_only=True)
class Response:
    """What one model made of one question.

    Attributes:
        texts: a generated text a sample.
        log_probs: of each reference after the prompt, or each window of the one reference, nats,
            summed over its tokens.
        tokens: of each of these.
        greedy: whether each is what greedy decoding would say.
    """

    texts: tuple[str, ...] = ()
    log_probs: tuple[float, ...] = ()
    tokens: tuple[int, ...] = ()
    greedy: tuple[bool, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a response is worth.

    Attributes:
        values: by metric, in [0, 1], higher is better.
        answer: what was understood as the answer, written so that equal answers are equal texts;
            None is no answer, and for benchmarks whose answers cannot be voted on.
        fault: what went wrong while scoring; the values then count the response as wrong.
    """

    values: Mapping[str, float]
    answer: str | None = None
    fault: str | None = None


class Source(NamedTuple):
    """Where the rows of a benchmark come from.

    Attributes:
        hub: repository.
        config: of the repository.
        configs: of the repository, where there are several; all are asked, their rows in turn.
        split: that is asked.
        shots_split: that worked examples are taken from, the first ones in order.
        asset: what ``lorafuse fetch`` gets without a hub.
        asset_split: of the asset, where it has another name there.
        from_asset: a row of the asset -> a row in the benchmark's columns; None is as it stands.
    """

    hub: str | None = None
    config: str | None = None
    configs: tuple[str, ...] = ()
    split: str = "test"
    shots_split: str = "train"
    asset: str | None = None
    asset_split: str | None = None
    from_asset: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None


Pose = Callable[[Row, Convention, Sequence[Mapping[str, Any]]], Question]
Scorer = Callable[[Sequence[Question], Sequence[Response]], Sequence[Score]]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: on the command line and in tables.
        version: raised whenever a scorer or a prompt gives other results than before: scores of
            another version are computed anew from the answers, answers of another version refused.
        about: one line, with the paper.
        licence: of the data.
        source: where rows come from.
        columns: that a row must have.
        conventions: by name, the default first.
        pose: a row in a convention -> its question. Raises UserError for a gold answer that no
            response could match.
        score: responses of one or several models, each beside its question -> their scores, in
            order. Must not raise for anything that a model may have said.
        metrics: names of the scores' values; models are compared by the first. A convention may
            lack later ones.
        shots_by: column that a question's worked examples have in common with it: the subject;
            None takes the same for all.
        runs_programs: whether to score is to run what models wrote; see ``sandbox``.
    """

    name: str
    version: int
    about: str
    licence: str
    source: Source
    columns: tuple[str, ...]
    conventions: Mapping[str, Convention]
    pose: Pose
    score: Scorer
    metrics: tuple[str, ...] = field(default=("correct",))
    shots_by: str | None = None
    runs_programs: bool = False

    def questions(
        self, rows: Sequence[Row], convention: str, shots: Sequence[Row] = ()
    ) -> list[Question]:
        """All rows as questions.

        Args:
            rows: what is asked.
            convention: in which way; "" is the default.
            shots: what worked examples are taken from, the first ones in order.

        Raises:
            UserError: there is no such convention, a row lacks a column, a gold answer cannot be
                matched, two rows have one id, or there are too few worked examples.
        """
        chosen = self.convention(convention)
        examples: dict[Any, list[Mapping[str, Any]]] = {}
        for shot in shots:
            self._check_columns(shot)
            examples.setdefault(self._kind(shot), []).append(shot.value)
        seen: dict[str, str] = {}
        questions = []
        for row in rows:
            self._check_columns(row)
            question = self.pose(row, chosen, self._shots_for(row, chosen.shots, examples))
            if question.id in seen:
                raise UserError(
                    f"{row.where}: the id {question.id!r} is that of {seen[question.id]} too; "
                    "ids must be unique, or be left out"
                )
            seen[question.id] = row.where
            questions.append(question)
        return questions

    def convention(self, name: str) -> Convention:
        """By name; "" is the default.

        Raises:
            UserError: there is none of that name.
        """
        name = name or next(iter(self.conventions))
        if name not in self.conventions:
            listed = "\n".join(f"  {self.name}@{n}: {c.about}" for n, c in self.conventions.items())
            raise UserError(f"{self.name} has no convention {name!r}; there are\n{listed}")
        return self.conventions[name]

    def _kind(self, row: Row) -> Any:
        """What worked examples and question must have in common."""
        return row.value.get(self.shots_by) if self.shots_by else None

    def _shots_for(
        self, row: Row, count: int, shots: Mapping[Any, list[Mapping[str, Any]]]
    ) -> Sequence[Mapping[str, Any]]:
        found = shots.get(self._kind(row), [])[:count]
        if len(found) < count:
            kind = f" whose {self.shots_by} is {self._kind(row)!r}" if self.shots_by else ""
            raise UserError(
                f"{row.where}: {len(found)} rows{kind} in the split {self.source.shots_split}, "
                f"{count} worked examples are wanted; name another convention"
            )
        return found

    def _check_columns(self, row: Row) -> None:
        if not isinstance(row.value, Mapping):
            kind = type(row.value).__name__
            raise UserError(f"{row.where}: a line must be a JSON object, this is a {kind}")
        missing = [column for column in self.columns if row.value.get(column) is None]
        if missing:
            raise UserError(
                f"{row.where}: no {missing[0]!r}, which {self.name} needs; the line has "
                f"{', '.join(row.value) or 'no keys'}"
            )


def each(score: Callable[[Question, Response], Score], metrics: Sequence[str]) -> Scorer:
    """A scorer that takes one response at a time; what raises counts as wrong, and says why."""

    def score_all(questions: Sequence[Question], responses: Sequence[Response]) -> list[Score]:
        return [_safely(score, q, r, metrics) for q, r in zip(questions, responses, strict=True)]

    return score_all


def _safely(score, question: Question, response: Response, metrics: Sequence[str]) -> Score:
    try:
        return score(question, response)
    except UserError:  # something is missing here, which no answer is to blame for
        raise
    except Exception as error:  # what a model says may break a parser; one example, not the run
        fault = f"{type(error).__name__}: {error}"
        return Score(values=dict.fromkeys(metrics, 0.0), fault=fault)
