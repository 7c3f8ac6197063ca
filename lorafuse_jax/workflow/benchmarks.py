"""Which benchmark a name means, and its questions, checked before a model is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorafuse_jax.assets import fetch
from lorafuse_jax.data.examples import SPLITS, Task
from lorafuse_jax.data.files import Row, read_rows
from lorafuse_jax.data.rows import Example
from lorafuse_jax.evaluation.benchmark import Benchmark, Convention, Question
from lorafuse_jax.evaluation.checkers import CHECKERS, Checker
from lorafuse_jax.evaluation.tasks import BENCHMARKS
from lorafuse_jax.evaluation.tasks.own import own_benchmark
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.inputs import load_any_task
from lorafuse_jax.workflow.progress import console


@dataclass(frozen=True)
class Posed:
    """A benchmark's questions, ready to be encoded.

    Attributes:
        label: as in tables: ``gsm8k@metamath``, ``my-data/test``.
        benchmark: which it is.
        convention: in which it is asked.
        questions: what is asked.
    """

    label: str
    benchmark: Benchmark
    convention: Convention
    questions: list[Question]


def pose(name: str, limit: int | None, checker: str | None = None) -> Posed:
    """The questions that a name means.

    Args:
        name: ``NAME``, ``NAME@CONVENTION``, either with ``:PATH`` for a local copy, of a benchmark;
            or a data set's name, file or folder, or either with ``/SPLIT``.
        limit: the first so many; None is all.
        checker: how answers of a data set are compared; None is what its task.json says, or as
            numbers.

    Raises:
        UserError: there is no such thing, or a row of it cannot be asked.
    """
    head, _, place = name.partition(":")
    known, _, convention = head.partition("@")
    if known in BENCHMARKS and not Path(name).exists():
        return _of_benchmark(BENCHMARKS[known], convention, place, limit)
    if "@" in head and not Path(name).exists():
        raise UserError(f"no benchmark {known!r}; there are {', '.join(BENCHMARKS)}")
    return pose_data(name, limit, checker)


def pose_data(name: str, limit: int | None, checker: str | None = None) -> Posed:
    """The questions of a data set, even where a benchmark has its name; see ``pose``."""
    head, slash, tail = name.rpartition("/")
    with_split = bool(slash) and tail in SPLITS
    task = load_any_task(head if with_split else name)
    split = tail if with_split else "test"
    if not task.splits.get(split):
        raise UserError(f"{name}: no {split} examples; there are {', '.join(task.splits)}")
    benchmark = _own(task, checker)
    rows = [_row(one, n) for n, one in enumerate(task.splits[split][:limit], start=1)]
    for row in rows:
        if row.value["answer"] is None:
            raise UserError(f"{row.where}: no 'answer' to check; add one to every line")
    convention = benchmark.convention("")
    return Posed(f"{task.name}/{split}", benchmark, convention, benchmark.questions(rows, ""))


def benchmark_of(asked: Mapping[str, Any]) -> Benchmark:
    """The benchmark that a folder of answers is of.

    Raises:
        UserError: this version does not know it.
    """
    name = asked["benchmark"]
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if name in CHECKERS:
        return own_benchmark(name, CHECKERS[name])
    raise UserError(f"{asked['label']}: this version knows no benchmark or checker {name!r}")


def _of_benchmark(benchmark: Benchmark, convention: str, place: str, limit: int | None) -> Posed:
    chosen = benchmark.convention(convention)
    source = benchmark.source
    rows = list(_rows(benchmark, Path(place) if place else None, source.split))
    shots = _shots(benchmark, place, chosen.shots) if chosen.shots else []
    name = next(n for n, other in benchmark.conventions.items() if other is chosen)
    questions = benchmark.questions(rows[:limit], name, shots)
    return Posed(f"{benchmark.name}@{name}", benchmark, chosen, questions)


def _shots(benchmark: Benchmark, place: str, count: int) -> Sequence[Row]:
    split = benchmark.source.shots_split
    folder = Path(place) if place else None
    if folder is not None and folder.is_file():
        raise UserError(
            f"{place}: a file has no {split} split to take {count} worked examples from; name a "
            "folder with both, or another convention"
        )
    return list(_rows(benchmark, folder, split))


def _rows(benchmark: Benchmark, place: Path | None, split: str) -> Sequence[Row]:
    """The rows of a split: from a local copy, from the hub, or of the asset."""
    if place is not None and place.is_file():
        plain = place.suffix == ".txt" and benchmark.columns == ("text",)
        return [_whole(place)] if plain else list(read_rows(place))
    if place is not None:
        return _from_folder(place, split)
    source = benchmark.source
    if source.hub is None and source.asset is None:
        raise UserError(
            f"{benchmark.name} has no data of its own; name yours after a colon, "
            f"{benchmark.name}:/path/to/file-or-folder"
        )
    failure: Exception | None = None
    if source.hub is not None:
        # Imported here because it takes a second, which every other command would wait for.
        import datasets  # noqa: PLC0415

        try:
            table = datasets.load_dataset(source.hub, source.config, split=split)
            where = " ".join(filter(None, (source.hub, source.config, split)))
            return [Row(row, f"{where}, row {n}", n) for n, row in enumerate(table, start=1)]
        except Exception as error:  # datasets, huggingface_hub and pyarrow raise whatever they meet
            failure = error
    if source.asset is not None:
        return _from_folder(fetch(source.asset, say=console.print), split)
    raise UserError(
        f"{source.hub}: datasets cannot load it ({type(failure).__name__}: {failure}); where no "
        f"hub answers, name a local copy after a colon, {benchmark.name}:/path/to/file-or-folder"
    )


def _whole(file: Path) -> Row:
    """A text file as one document."""
    try:
        return Row({"text": file.read_text(encoding="utf-8")}, str(file), 1)
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error})") from None


def _from_folder(folder: Path, split: str) -> Sequence[Row]:
    for file in (folder / f"{split}.jsonl", folder / f"{split}.parquet", folder / f"{split}.json"):
        if file.exists():
            return list(read_rows(file))
    raise UserError(f"{folder} has no {split}.jsonl (or .parquet, .json)")


def _own(task: Task, checker: str | None) -> Benchmark:
    chosen: str = checker or task.checker or "number"
    if chosen not in CHECKERS:
        listed = "\n".join(f"  {one.name}: {one.about}" for one in CHECKERS.values())
        raise UserError(f"no checker {chosen!r}; there are\n{listed}")
    found: Checker = CHECKERS[chosen]
    return own_benchmark(found.name, found)


def _row(example: Example, number: int) -> Row:
    value = {
        "id": example.id,
        "prompt": example.prompt,
        "completion": example.completion,
        "answer": example.answer,
        "turns": example.turns[:-1],
    }
    return Row(value, example.where, number)
