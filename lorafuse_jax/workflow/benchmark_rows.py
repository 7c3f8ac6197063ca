"""The rows of a benchmark: of a local copy, of the hub, or of what ``lorafuse fetch`` gets."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from lorafuse_jax.assets import fetch
from lorafuse_jax.data.files import SUFFIXES, Row, read_rows
from lorafuse_jax.evaluation.benchmark import Benchmark, Source
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.progress import console


class Found(NamedTuple):
    """Rows, and whether they are the packaged ones because no hub has answered."""

    rows: Sequence[Row]
    packaged: bool = False


def rows_of(benchmark: Benchmark, place: str, split: str = "") -> Found:
    """What is asked.

    Args:
        benchmark: whose source says where from.
        place: a local copy, a file or a folder; empty is the hub.
        split: another one than the benchmark's own.

    Raises:
        UserError: there is nothing to be had.
    """
    source = benchmark.source
    wanted = split or source.split
    if place:
        path = Path(place).expanduser()
        if not path.exists():
            raise UserError(f"{place} does not exist; name a file or folder of {benchmark.name}")
        return Found(
            _of_file(path, benchmark) if path.is_file() else _of_folder(path, source, wanted)
        )
    if source.hub is None and source.asset is None:
        raise UserError(
            f"{benchmark.name} has no data of its own; name yours after a colon, "
            f"{benchmark.name}:/path/to/file-or-folder"
        )
    failure: Exception | None = None
    if source.hub is not None:
        try:
            return Found(_of_hub(source.hub, source.configs or (source.config,), wanted))
        except Exception as error:  # datasets, huggingface_hub and pyarrow raise whatever they meet
            failure = error
    if source.asset is None:
        raise UserError(
            f"{source.hub}: datasets cannot load it ({type(failure).__name__}: {failure}); where "
            f"no hub answers, name a local copy after a colon, {benchmark.name}:/path/to/it"
        )
    asset = fetch(source.asset, say=console.print)
    rows = _of_folder(asset, source, split or source.asset_split or source.split)
    if source.from_asset is not None:
        rows = [row._replace(value=source.from_asset(row.value)) for row in rows]
    if failure is not None:
        console.print(
            f"{benchmark.name}: {source.hub} cannot be loaded ({type(failure).__name__}); instead "
            f"{len(rows)} problems of the asset {source.asset} are asked"
        )
    return Found(rows, packaged=True)


def shots_of(benchmark: Benchmark, place: str) -> Sequence[Row]:
    """What worked examples are taken from.

    Raises:
        UserError: there is nothing to be had.
    """
    split = benchmark.source.shots_split
    if place and Path(place).is_file():
        raise UserError(
            f"{place}: a file has no {split} split to take worked examples from; name a folder "
            "with both, or another convention"
        )
    return rows_of(benchmark, place, split).rows


def _of_file(file: Path, benchmark: Benchmark) -> Sequence[Row]:
    """Its rows; a text file is one, where texts are what is asked."""
    if file.suffix != ".txt" or benchmark.columns != ("text",):
        return list(read_rows(file))
    try:
        return [Row({"text": file.read_text(encoding="utf-8")}, str(file), 1)]
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error})") from None


def _of_hub(hub: str, configs: Sequence[str | None], split: str) -> Sequence[Row]:
    # Imported here because it takes a second, which every other command would wait for.
    import datasets  # noqa: PLC0415

    tables = []
    for config in configs:
        table = datasets.load_dataset(hub, config, split=split)
        where = " ".join(filter(None, (hub, config, split)))
        tables.append([Row(row, f"{where}, row {n}", n) for n, row in enumerate(table, start=1)])
    return _in_turn(tables)


def _of_folder(folder: Path, source: Source, split: str) -> Sequence[Row]:
    """``test.jsonl`` and the like, in the folder or, as on the hub, in folders of the configs."""
    files = _files(folder, split)
    if files:
        return [row for file in files for row in read_rows(file)]
    configs = source.configs or (source.config,)
    by_config = {config: _files(folder / config, split) for config in configs if config}
    missing = [config for config, files in by_config.items() if not files]
    if missing or not by_config:
        inside = f", and {folder / missing[0]} neither" if missing else ""
        raise UserError(f"{folder} has no {split}.jsonl (or .parquet, .json){inside}")
    return _in_turn([[r for file in own for r in read_rows(file)] for own in by_config.values()])


def _files(folder: Path, split: str) -> list[Path]:
    named = [folder / f"{split}{suffix}" for suffix in SUFFIXES]
    found = [file for file in named if file.exists()]
    return found[:1] or sorted(folder.glob(f"{split}-*.parquet"))


def _in_turn(tables: Sequence[Sequence[Row]]) -> Sequence[Row]:
    """The first row of every table, the second of every table, and so on."""
    return [row for rows in zip_longest(*tables) for row in rows if row is not None]
