"""Whether a text follows instructions that a program can check; the rules are a library's."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from lorafuse_jax.evaluation.benchmark import Question, Response, Score

METRICS = ("prompt_strict", "inst_strict", "prompt_loose", "inst_loose")
"""All instructions of a prompt are followed, or the share of them that is; strictly or loosely."""


@runtime_checkable
class Instruction(Protocol):
    """A rule, as IFEval's authors wrote them."""

    def build_description(self, **settings: Any) -> Any:
        """Take the settings; those that are missing are drawn at random."""

    def get_instruction_args(self) -> Any:
        """The settings, or None."""

    def check_following(self, value: str) -> Any:
        """Whether a text follows it."""


class Rules(NamedTuple):
    """A library's rules.

    Attributes:
        kinds: what makes a rule of its name, by name.
        is_set: whether a setting counts as given.
        may_draw: names of those that draw a setting at random though it is given.
    """

    kinds: Mapping[str, Callable[[str], Instruction]]
    is_set: Callable[[Any], bool]
    may_draw: frozenset[str] = frozenset()


def build(rules: Rules, names: Sequence[str], settings: Sequence, prompt: str) -> list[Instruction]:
    """The rules of one prompt; what they draw at random is the same every time.

    Raises:
        KeyError: no rule has that name.
        ValueError: as many settings as names are needed, or a setting is missing.
        TypeError: a rule has no such setting.
    """
    before = random.getstate()
    try:
        return [
            _rule(rules, name, own or {}, prompt) for name, own in zip(names, settings, strict=True)
        ]
    finally:
        random.setstate(before)


def _rule(rules: Rules, name: str, settings: Mapping[str, Any], prompt: str) -> Instruction:
    random.seed(0)
    undrawn = random.getstate()
    rule = rules.kinds[name](name)
    rule.build_description(**{k: v for k, v in settings.items() if rules.is_set(v)})
    arguments = rule.get_instruction_args()
    if arguments and "prompt" in arguments:
        rule.build_description(prompt=prompt)
    if random.getstate() != undrawn and name not in rules.may_draw:
        raise ValueError(f"a setting of {name} is missing, or is none that it takes")
    return rule


def variants(text: str) -> list[str]:
    """What a loose check accepts any of: without first line, last line, both, asterisks.

    Source: 2311.07911, section 2.2, in the order of its authors' ``evaluation_lib.py``.
    """
    lines = text.split("\n")
    shorter = ["\n".join(some).strip() for some in (lines[1:], lines[:-1], lines[1:-1])]
    return [one for kept in (text, *shorter) for one in (kept, kept.replace("*", ""))]


def score_instructions(rules: Rules, question: Question, response: Response) -> Score:
    """One answer; a rule that raises counts as not followed, and what it raised is the fault.

    The first such fault is kept. ``inst_*`` is the share of this prompt's instructions, so its mean
    weighs prompts alike; the paper's weighs instructions alike.
    """
    gold, text, faults = question.gold, response.texts[0], []

    def follows(rule: Instruction, texts: Sequence[str]) -> bool:
        try:
            return any(one.strip() and rule.check_following(one) for one in texts)
        except Exception as error:  # what a model writes may break a rule; one answer, not the run
            faults.append(f"{type(error).__name__}: {error}")
            return False

    made = build(rules, gold["instructions"], gold["settings"], question.prompt)
    strict = [follows(rule, [text]) for rule in made]
    # A rule may change while it checks; so the loose check starts from fresh ones, as the original.
    made = build(rules, gold["instructions"], gold["settings"], question.prompt)
    loose = [follows(rule, variants(text)) for rule in made]
    values = {
        "prompt_strict": float(all(strict)),
        "inst_strict": sum(strict) / len(strict),
        "prompt_loose": float(all(loose)),
        "inst_loose": sum(loose) / len(loose),
    }
    return Score(values=values, fault=faults[0] if faults else None)
