"""How much of a test set is in the training data, by common n-grams of words.

The convention is that of GPT-3 (2005.14165, appendix C): words without case and punctuation; n is
the 5th percentile of the test examples' lengths in words, but at least 8 and at most 13; an example
that shares any n-gram with training is overlapping. An example shorter than n is compared whole.

Departures: of a test example only the prompt counts, since answers are made of stock phrases, and a
short one is compared with whole training prompts. Since common instructions also overlap, examples
are counted apart of whose n-grams at least 70 % are in the training data (PaLM's criterion,
2204.02311, section 8, there with n = 8).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from lorafuse_jax.data.examples import normalize, words_of
from lorafuse_jax.data.rows import Example
from lorafuse_jax.types import UserError

SHORTEST, LONGEST, PERCENTILE = 8, 13, 5
MOSTLY = 0.7
WORST = 20
"""Examples that are listed one by one."""

AT_ONCE = 2000
"""Training examples whose words are held at a time."""

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Overlap(NamedTuple):
    """A test example, and the training example that most of its common n-grams are first found in.

    Attributes:
        where: file and line of the test example.
        train_where: file and line of the training example.
        share: of the test example's n-grams, how many are anywhere in the training data, in (0, 1].
    """

    where: str
    train_where: str
    share: float


@dataclass(frozen=True)
class Contamination:
    """What a test set has in common with the training data.

    Attributes:
        n: words of an n-gram.
        examples: size of the test set.
        overlapping: test examples that share any n-gram.
        mostly: test examples of whose n-grams at least 70 % are in the training data.
        worst: those with the largest shares, the largest first.
    """

    n: int
    examples: int
    overlapping: int
    mostly: int
    worst: tuple[Overlap, ...]

    @property
    def share(self) -> float:
        """Share of the test examples with any overlap."""
        return self.overlapping / self.examples

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        worst = [overlap._asdict() for overlap in self.worst]
        return asdict(self) | {"share": self.share, "worst": worst}


def contamination(
    train: Sequence[Example], test: Sequence[Example], *, n: int | None = None
) -> Contamination:
    """Look for the test examples' n-grams in the training examples, prompts and answers.

    N-grams are compared by a hash of 64 bits.

    Args:
        train: what is trained on.
        test: what is asked afterwards.
        n: words of an n-gram; by default as the convention says.

    Raises:
        UserError: there is no test example, or n is below 1.
    """
    if not test or (n is not None and n < 1):
        raise UserError(f"{len(test)} test examples and n = {n}: both must be at least 1")
    words = [words_of(example.prompt) for example in test]
    if n is None:
        typical = np.percentile([len(one) for one in words], PERCENTILE)
        n = int(np.clip(typical, SHORTEST, LONGEST))
    vocabulary = _Vocabulary(words)
    grams, owners = vocabulary.grams(words, n)
    known, places = np.unique(grams, return_inverse=True)
    first_seen = np.full(len(known), len(train))
    for start in range(0, len(train), AT_ONCE):
        texts = [words_of(_text(example)) for example in train[start : start + AT_ONCE]]
        found, sources = vocabulary.grams(texts, n)
        at = np.minimum(np.searchsorted(known, found), max(len(known) - 1, 0))
        hit = known[at] == found if len(known) else np.zeros(len(found), bool)
        np.minimum.at(first_seen, at[hit], start + sources[hit])
    sources = first_seen[places]
    sources_of = np.split(sources, np.searchsorted(owners, np.arange(1, len(test))))
    whole = _whole_prompts(train) if any(len(one) < n for one in words) else {}
    overlaps = []
    for example, own, seen in zip(test, words, sources_of, strict=True):
        if len(own) < n:
            seen = np.array([whole.get(" ".join(own), len(train))])
        hits = seen[seen < len(train)]
        if len(hits):
            source = train[int(np.bincount(hits).argmax())].where
            overlaps.append(Overlap(example.where, source, len(hits) / len(seen)))
    overlaps.sort(key=lambda overlap: -overlap.share)
    mostly = sum(overlap.share >= MOSTLY for overlap in overlaps)
    return Contamination(n, len(test), len(overlaps), mostly, tuple(overlaps[:WORST]))


class _Vocabulary:
    """Numbers for the test set's words; all other words, and the ends of texts, are 0."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        distinct = dict.fromkeys(word for text in texts for word in text)
        self._numbers = {word: number for number, word in enumerate(distinct, start=1)}
        draw = np.random.default_rng(0).integers
        self._codes = draw(1 << 63, size=len(distinct) + 1, dtype=np.uint64)

    def grams(self, texts: Sequence[Sequence[str]], n: int) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of all n-grams of known words, and the number of the text that each is in."""
        get = self._numbers.get
        numbers = np.array(
            [number for text in texts for number in (*(get(word, 0) for word in text), 0)], np.int32
        )
        owners = np.repeat(np.arange(len(texts)), [len(text) + 1 for text in texts])
        unknown = np.concatenate([[0], np.cumsum(numbers == 0)])
        (starts,) = np.nonzero(unknown[n:] == unknown[:-n])
        hashes = np.zeros(len(starts), np.uint64)
        for offset in range(n):
            hashes = hashes * MULTIPLIER + self._codes[numbers[starts + offset]]
        return hashes, owners[starts]


def _whole_prompts(train: Sequence[Example]) -> dict[str, int]:
    first: dict[str, int] = {}
    for number, example in enumerate(train):
        first.setdefault(normalize(example.prompt), number)
    return first


def _text(example: Example) -> str:
    return f"{example.prompt}\n{example.completion}"
