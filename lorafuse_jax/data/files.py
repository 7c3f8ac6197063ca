"""Rows of JSONL, JSON and Parquet files, each with its file and line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lorafuse_jax.types import UserError

SUFFIXES = (".jsonl", ".json", ".parquet")
"""What data files are called, the preferred first."""

PARQUET_ROWS = 1000
"""Rows of a Parquet file that are Python objects at a time."""


class Row(NamedTuple):
    """A row as it stands.

    Attributes:
        value: a dict, if the file is well-formed.
        where: file and line, or file and number of the row.
        number: of the line, from 1.
    """

    value: Any
    where: str
    number: int


def read_rows(path: Path) -> Iterator[Row]:
    """All rows of a file, in order.

    ``.parquet`` is Parquet; ``.json`` may be one array; all else is JSONL.

    Raises:
        UserError: the file is missing or damaged, or a line is no JSON.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    if path.suffix == ".parquet":
        return _parquet(path)
    if path.suffix == ".json" and _is_array(path):
        return _json_array(path)
    return _jsonl(path)


def _jsonl(path: Path) -> Iterator[Row]:
    number = 0
    with path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                where = f"{path}:{number}"
                if not line.strip():
                    raise UserError(f"{where}: the line is empty; remove it")
                try:
                    value = json.loads(line)
                except json.JSONDecodeError as error:
                    problem = f"not JSON ({error.msg} at column {error.colno})"
                    raise UserError(f"{where}: {problem}") from None
                yield Row(value, where, number)
        except UnicodeDecodeError as error:
            raise UserError(f"{path}:{number + 1}: not UTF-8 text ({error})") from None


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"[")


def _json_array(path: Path) -> Iterator[Row]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    for number, value in enumerate(values, start=1):
        yield Row(value, f"{path}, entry {number}", number)


def _parquet(path: Path) -> Iterator[Row]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(value, f"{path}, row {number}", number)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: a damaged Parquet file ({error})") from None
