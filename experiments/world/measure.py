"""Every row of every group of one condition, on given questions: who is right, and how likely."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.world.answers import Ask, Marks, Questions, ensemble, mark, written
from experiments.world.rows import Row, Settings, fuse
from lorafuse_jax.adapter import combine, cosine, norm, stack, take
from lorafuse_jax.evaluation.vote import majority
from lorafuse_jax.fusion.learned.greedy_soup import greedy_soup
from lorafuse_jax.models.hub import Model
from lorafuse_jax.types import Adapter

Table = dict[str, list[Marks]]
"""Row -> its marks, one a group; a seed has a row of its own place in the group."""


class Exam(NamedTuple):
    """Who asks what.

    Attributes:
        model: the base.
        ask: of ``answers.make_asker``.
        questions: what is asked.
    """

    model: Model
    ask: Ask
    questions: Questions

    def mark(self, adapter: Adapter) -> Marks:
        """One model's."""
        return mark(self.ask(adapter, self.questions), self.questions)

    def likelihood(self, adapter: Adapter) -> float:
        """Mean log-likelihood of all answer tokens, nats."""
        marks = self.mark(adapter)
        return float(np.average(marks.log_likelihood, weights=self.questions.counted.sum(axis=1)))


def groups_of(members: Sequence[Adapter], size: int) -> list[Adapter]:
    """Disjoint groups of neighbours, each stacked."""
    starts = range(0, len(members) - size + 1, size)
    return [stack(members[start : start + size]) for start in starts]


def seeds_of(stacked: Adapter) -> list[Adapter]:
    """A group's members one by one."""
    count = next(iter(stacked.values()))[0].shape[0]
    return [take(stacked, number) for number in range(count)]


def fused_table(
    exam: Exam, groups: Sequence[Adapter], rows: Mapping[str, tuple[Row, Settings]]
) -> Iterator[tuple[str, list[Marks]]]:
    """Rows as they come: each with settings that were chosen before."""
    for name, (row, settings) in rows.items():
        yield name, [exam.mark(fuse(row, settings, g, n)) for n, g in enumerate(groups)]


def member_table(exam: Exam, groups: Sequence[Adapter], *, vote: bool) -> Table:
    """Seeds, and what is made of their outputs: the ensemble of logits, the vote.

    Args:
        exam: who asks what.
        groups: the members.
        vote: also let each member write its answers, for a majority vote.
    """
    found: Table = {"ensemble of logits": []} | ({"majority vote": []} if vote else {})
    for group in groups:
        members = seeds_of(group)
        log_probs = [exam.ask(member, exam.questions) for member in members]
        marks = [mark(own, exam.questions) for own in log_probs]
        for number, own in enumerate(marks):
            found.setdefault(f"seed {number + 1}", []).append(own)
        together = ensemble(jnp.stack(log_probs))
        found["ensemble of logits"].append(mark(together, exam.questions))
        if vote:
            found["majority vote"].append(_voted(exam, members, marks))
    return found


def _voted(exam: Exam, members: Sequence[Adapter], marks: Sequence[Marks]) -> Marks:
    """The answer that most members write; ties go to the first of those, as in the tool's vote."""
    chosen = majority(written(exam.model, members, exam.questions))
    right = np.stack([own.right for own in marks])
    return Marks(right[chosen, np.arange(right.shape[1])], np.full(right.shape[1], np.nan))


def best_members(exam: Exam, groups: Sequence[Adapter]) -> list[int]:
    """Of each group the member with the highest likelihood on these questions: validation's."""
    return [int(np.argmax([exam.likelihood(one) for one in seeds_of(group)])) for group in groups]


def soups(exam: Exam, groups: Sequence[Adapter]) -> list[Adapter]:
    """The greedy soup of each group by these questions: validation's."""
    return [greedy_soup(group, exam.likelihood).adapter for group in groups]


def choose(
    exam: Exam, groups: Sequence[Adapter], rows: Mapping[str, Row]
) -> Iterator[tuple[str, list[float]]]:
    """Mean held-out loss over groups, nats a token, of every setting of every row, as they come.

    Args:
        exam: on validation questions.
        groups: of seeds that are in no test.
        rows: with settings to choose among.
    """
    for name, row in rows.items():
        yield (
            name,
            [
                -float(
                    np.mean([exam.likelihood(fuse(row, own, g, n)) for n, g in enumerate(groups)])
                )
                for own in row.settings
            ],
        )


def mean_of(stacked: Adapter) -> Adapter:
    """The plain mean, as one adapter of rank S * R."""
    count = next(iter(stacked.values()))[0].shape[0]
    return combine(stacked, jnp.full(count, 1 / count))


def geometry(groups: Sequence[Adapter]) -> dict[str, list[float]]:
    """How far a group's seeds lie apart: mean cosine of pairs, norm of the mean over a member's."""
    cosines, shrinking = [], []
    pair_cosine, size = jax.jit(cosine), jax.jit(norm)
    for group in groups:
        members = seeds_of(group)
        pairs = [(a, b) for n, a in enumerate(members) for b in members[n + 1 :]]
        cosines.append(float(np.mean([pair_cosine(a, b) for a, b in pairs])))
        norms = [float(size(member)) for member in members]
        shrinking.append(float(size(mean_of(group))) / float(np.mean(norms)))
    return {"cosine": cosines, "shrinking": shrinking}
