"""What is known of one benchmark, as the parts of the page take it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorafuse_jax.evaluation.benchmark import Question
from lorafuse_jax.evaluation.records import Answer
from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.evaluation.seed_count import SizeLine
from lorafuse_jax.evaluation.summary import Summary


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is known of one benchmark.

    Attributes:
        summary: the rows of its table.
        scores: the matrix that they were made of.
        questions: by id; those that are missing are shown without their prompt.
        answers: by question and model.
        by_size: results by number of seeds; none for a single seed.
    """

    summary: Summary
    scores: Scores
    questions: Mapping[str, Question]
    answers: Mapping[tuple[str, str], Answer]
    by_size: Sequence[SizeLine] = ()
