"""Python functions to complete: tasks of CodeIO's, and real functions of pinned packages."""

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lorafuse_jax.assets.code_io import code_io_pairs
from lorafuse_jax.assets.functions import Pair, documented_functions
from lorafuse_jax.assets.human_eval import DATA as HUMAN_EVAL
from lorafuse_jax.assets.task_files import describe, hash_percent, mixed, normalized, write_rows
from lorafuse_jax.data.contamination import contamination
from lorafuse_jax.data.rows import Example
from lorafuse_jax.evaluation.benchmark import Question, Response
from lorafuse_jax.evaluation.code.doctests import score
from lorafuse_jax.evaluation.sandbox.isolation import find_isolation
from lorafuse_jax.types import UserError

LIBRARIES = ("algorithms", "sympy")
"""Packages of train, validation and test."""

TRANSFER_LIBRARIES = ("more_itertools", "toolz", "pydash", "boltons")
"""Packages that are held out whole."""

CODE_IO = "codeio"
TEST_PERCENT, VALIDATION_PERCENT = 20, 10
PIECE = re.compile(r"\d|[A-Z]{1,2}[a-z]{0,4}|[a-z]{1,5}|_|[^\w\s]{1,2}|\n *|[^\x00-\x7f]", re.ASCII)
"""About a token of SmolLM2's tokenizer, and rather less."""

MOST_PIECES, MOST_PIECES_OF_BODY = 250, 120
SAME_FUNCTION = 0.5
"""Share of common triples of words, of prompts or of bodies, above which two functions are one."""


class _Candidate(NamedTuple):
    """A pair, and where it belongs.

    Attributes:
        id: unique.
        group: where it is from.
        together: what is never divided between splits: a folder of modules, a question.
        pair: the function.
    """

    id: str
    group: str
    together: str
    pair: Pair


def prepare_code_pairs(source: Path, folder: Path) -> None:
    """Train, validation and test by folder or question, transfer from held-out packages.

    Every reference passes its tests, no two functions are nearly the same, and none has its name
    or an n-gram of its prompt in common with HumanEval.
    """
    candidates = _distinct(one for one in _candidates(source) if _fits(one.pair))
    kept = _that_pass(_unlike_human_eval(candidates, source))
    splits: dict[str, list[dict]] = {
        split: [] for split in ("train", "validation", "test", "transfer")
    }
    for one in kept:
        splits[_split_of(one)].append(
            {
                "id": one.id,
                "prompt": one.pair.prompt,
                "completion": one.pair.body,
                "answer": one.pair.tests,
                "group": one.group,
            }
        )
    for split, rows in splits.items():
        write_rows(folder / f"{split}.jsonl", mixed(rows))
    about = f"{len(kept)} Python functions to complete, with doctests"
    describe(folder, "code-pairs", about, "function", "doctest")


def _split_of(one: _Candidate) -> str:
    if one.group in TRANSFER_LIBRARIES:
        return "transfer"
    percent = hash_percent(one.together)
    held_out = TEST_PERCENT + VALIDATION_PERCENT
    return "test" if percent < TEST_PERCENT else "validation" if percent < held_out else "train"


def _candidates(source: Path) -> Iterator[_Candidate]:
    for number, pair in code_io_pairs(source, _fits):
        yield _Candidate(f"{CODE_IO}-{number}", CODE_IO, normalized(pair.prompt), pair)
    for library in (*LIBRARIES, *TRANSFER_LIBRARIES):
        for file in sorted((source / library).rglob("*.py")):
            parts = file.relative_to(source).with_suffix("").parts
            if "tests" in parts:
                continue
            for pair in documented_functions(file):
                name = ".".join((*parts, pair.name))
                yield _Candidate(name, library, ".".join(parts[:-1]), pair)


def _fits(pair: Pair) -> bool:
    """Whether a function is short enough for a small model to learn from in seconds."""
    body = len(PIECE.findall(pair.body))
    return body <= MOST_PIECES_OF_BODY and body + len(PIECE.findall(pair.prompt)) <= MOST_PIECES


def _distinct(candidates: Iterable[_Candidate]) -> list[_Candidate]:
    """Those of which no earlier one is the same, or nearly so."""
    kept: list[_Candidate] = []
    texts: set[str] = set()
    triples: list[tuple[set, set]] = []
    for one in candidates:
        # Two bodies may differ in an operator alone.
        signs = re.findall(r"\w+|[^\w\s]", one.pair.body)
        text, own = (
            " ".join(signs),
            (_triples(normalized(one.pair.prompt).split()), _triples(signs)),
        )
        near = any(
            _overlap(mine, other) > SAME_FUNCTION
            for others in triples
            for mine, other in zip(own, others, strict=True)
        )
        if text not in texts and not near:
            kept.append(one)
            texts.add(text)
            triples.append(own)
    return kept


def _triples(words: Sequence[str]) -> set[tuple[str, ...]]:
    return set(zip(words, words[1:], words[2:], strict=False))


def _overlap(left: set, right: set) -> float:
    return len(left & right) / max(1, len(left | right))


def _unlike_human_eval(candidates: Sequence[_Candidate], source: Path) -> list[_Candidate]:
    lines = gzip.decompress((source / HUMAN_EVAL).read_bytes()).decode().splitlines()
    problems = [json.loads(line) for line in lines]
    names = {problem["entry_point"] for problem in problems}
    asked = [_example(row["task_id"], row["prompt"]) for row in problems]
    kept = {one.id: one for one in candidates if one.pair.name not in names}
    while True:
        pairs = [_example(one.id, one.pair.prompt, one.pair.body) for one in kept.values()]
        found = contamination(pairs, asked)
        if not found.overlapping:
            return list(kept.values())
        for overlap in found.worst:
            kept.pop(overlap.train_where, None)


def _example(where: str, prompt: str, completion: str = "") -> Example:
    return Example(where, prompt, completion, None, where)


def _that_pass(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Those whose reference passes its tests where answers are scored."""
    questions = [
        Question(id=one.id, where=one.id, prompt=one.pair.prompt, gold=one.pair.tests)
        for one in candidates
    ]
    responses = [Response(texts=(one.pair.body,)) for one in candidates]
    scores = score(questions, responses, unsafe=not _isolated())
    return [one for one, own in zip(candidates, scores, strict=True) if own.values["passes"]]


def _isolated() -> bool:
    """Whether programs can be isolated; these only compute, and are run where they cannot be."""
    try:
        find_isolation()
    except UserError:
        return False
    return True
