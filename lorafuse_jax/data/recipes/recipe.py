"""What a recipe says about a published data set, and how a task is made by it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorafuse_jax.data.examples import Task, normalize, split_by_hash
from lorafuse_jax.data.files import Row, read_rows
from lorafuse_jax.data.rows import Example, example_from_row
from lorafuse_jax.types import UserError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A published data set.

    Attributes:
        about: one line.
        licence: of the data.
        hub: its repository.
        columns: those of the original that are read; all must be there.
        to_row: an original row -> a row of ours, with prompt and completion or messages.
        configs: of the hub's repository; all are taken. None is the only one.
        splits: our split -> the original's. A validation or test split that the original lacks is
            made of its training rows.
        held_out: percent of the training rows that each split so made gets, by the hash of their
            normalised ``group``.
        group: column whose text rows have in common that must fall on the same side; by default
            what a row begins with, up to the first answer.
        template: what prompts are put under.
    """

    about: str
    licence: str
    hub: str
    columns: tuple[str, ...]
    to_row: Callable[[Mapping[str, Any]], dict[str, Any]]
    held_out: int
    configs: tuple[str | None, ...] = (None,)
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train"})
    group: str | None = None
    template: str | None = None


Original = dict[str, list[tuple[str, Row]]]
"""The original's split -> rows, each with the id that it will have."""


def load_recipe(name: str, recipe: Recipe, place: Path | None = None) -> Task:
    """The task that a recipe makes of a data set.

    Rows without a prompt or an answer are left out, and so are repetitions (of prompt and
    completion) and training rows whose prompt is held out as well; the task says how many.

    Args:
        name: of the task.
        recipe: what the data set is like.
        place: a local file (JSONL, JSON, Parquet), or a folder that ``datasets`` reads, in the
            original's columns; None is the hub. One file is taken for the training split.

    Raises:
        UserError: the data set cannot be had, or is not in the original's columns.
    """
    original = _from_file(place) if place is not None and place.is_file() else None
    if original is None:
        original = _from_datasets(recipe, place)
    if recipe.splits["train"] not in original:
        raise UserError(f"{place or recipe.hub}: no split {recipe.splits['train']!r} to train on")
    left_out = {"empty": 0, "duplicates": 0, "also held out": 0}
    splits = _made_splits(recipe, original, left_out)
    _keep_apart(splits, left_out)
    return Task(name, recipe.template, splits, left_out)


def _made_splits(
    recipe: Recipe, original: Original, left_out: dict[str, int]
) -> dict[str, list[Example]]:
    given = {ours: theirs for ours, theirs in recipe.splits.items() if theirs in original}
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    shares = {split: 0 if split in given else recipe.held_out for split in ("validation", "test")}
    for split, theirs in given.items():
        seen: set[tuple[str, str]] = set()
        for id, row in original[theirs]:
            example = _example(recipe, id, row)
            if example is None:
                left_out["empty"] += 1
                continue
            text = (normalize(example.prompt), example.completion)
            if text in seen:
                left_out["duplicates"] += 1
                continue
            seen.add(text)
            group = example.opening if recipe.group is None else str(row.value[recipe.group])
            side = split_by_hash(normalize(group), **shares) if split == "train" else split
            splits[side].append(example)
    return splits


def _example(recipe: Recipe, id: str, row: Row) -> Example | None:
    missing = [column for column in recipe.columns if column not in row.value]
    if missing:
        raise UserError(
            f"{row.where}: no column {missing[0]!r}; {recipe.hub} has {', '.join(recipe.columns)}, "
            f"this row has {', '.join(row.value)}"
        )
    ours = recipe.to_row({key: row.value[key] for key in recipe.columns})
    texts = [ours.get("prompt"), ours.get("completion")]
    if "messages" in ours:
        texts = [turn["content"] for turn in ours["messages"]] or [""]
    if any(text is None or not text.strip() for text in texts):
        return None
    return example_from_row(ours | {"id": id}, row.where, id)


def _keep_apart(splits: dict[str, list[Example]], left_out: dict[str, int]) -> None:
    """Take from every split what a later one asks as well."""
    taken: set[str] = set()
    for split in ("test", "validation", "train"):
        kept = [one for one in splits[split] if normalize(one.prompt) not in taken]
        left_out["also held out"] += len(splits[split]) - len(kept)
        taken |= {normalize(one.prompt) for one in kept}
        splits[split] = kept


def _from_file(path: Path) -> Original:
    return {"train": [(str(row.number), row) for row in read_rows(path)]}


def _from_datasets(recipe: Recipe, place: Path | None) -> Original:
    # Imported here because it takes a second, which every other command would wait for.
    import datasets  # noqa: PLC0415

    if place is not None and not place.is_dir():
        raise UserError(f"{place} does not exist; name a file or folder with {recipe.hub}'s rows")
    source = recipe.hub if place is None else str(place)
    original: Original = {}
    try:
        configs = recipe.configs
        if place is not None:
            known = datasets.get_dataset_config_names(source)
            configs = tuple(c for c in configs if c in known) or (None,)
        for config in configs:
            for split, rows in datasets.load_dataset(source, config).items():
                where = " ".join(filter(None, (source, config, str(split))))
                numbered = _numbered(rows, where, "" if len(configs) == 1 else f"{config}-")
                original.setdefault(str(split), []).extend(numbered)
    except Exception as error:  # datasets, huggingface_hub and pyarrow raise whatever they meet
        raise UserError(
            f"{source}: datasets cannot load it ({type(error).__name__}: {error}); where no hub "
            "answers, name a local copy after a colon, NAME:/path/to/file-or-folder"
        ) from error
    return original


def _numbered(rows: Any, where: str, prefix: str) -> Iterator[tuple[str, Row]]:
    for number, value in enumerate(rows, start=1):
        yield f"{prefix}{number}", Row(value, f"{where}, row {number}", number)
