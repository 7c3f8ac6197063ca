"""Letters, words, patterns and formulas."""

import pytest

from lorafuse_jax.evaluation.benchmark import Question, Response
from lorafuse_jax.evaluation.checkers import CHECKERS, letter


def score(checker, text, gold):
    question = Question(id="1", where="t:1", prompt="?", gold=gold)
    return CHECKERS[checker].score([question], [Response(texts=(text,))])[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("B", "B"),
        (" (C) because", "C"),
        ("D. It is", "D"),
        ("**A**\nSo", "A"),
        ("A dog (B)", "B"),
        ("A dog", None),
        ("I think so", None),
        ("First A, but the answer is B.", "B"),
        ("Answer: (c)", "C"),
        ("The answer is a dog", None),
        ("the answer is $\\boxed{\\text{E}}$", "E"),
        ("The answer is A. No, the answer is D", "D"),
        ("The answer is Albert", None),
        ("So B.\n#### c", "C"),
        ("", None),
        ("My answer: I think it is (B).", "B"),
        ("The answer is A because of it", "A"),
        ("Answer: I", "I"),
    ],
)
def test_the_letter_is_found(text, found):
    assert letter.find(text) == found


@pytest.mark.parametrize(
    ("checker", "text", "gold", "right"),
    [
        ("choice", "The answer is (B).", "(b)", 1),
        ("choice", "The answer is (B).", "C", 0),
        ("choice", "nothing", "C", 0),
        ("contains", "In New\nYork, of course", "new york", 1),
        ("contains", "In Newer York", "New York", 0),
        ("contains", "", "New York", 0),
        ("contains", "it is 3.5", "5", 0),
        ("contains", "x <= 3", "<=", 1),
        ("contains", "x < 3", "<=", 0),
        ("regex", "on 3 May 2020", r"\d+ (May|June) \d{4}", 1),
        ("regex", "on 3 July 2020", r"\d+ (May|June) \d{4}", 0),
        ("math", "so $\\boxed{\\frac12}$", "0.5", 1),
        ("math", "so 3/6", "\\frac{1}{2}", 1),
        ("math", "so 2/6", "\\frac{1}{2}", 0),
        ("math", "", "5", 0),
    ],
)
def test_answers_are_compared(checker, text, gold, right):
    assert score(checker, text, gold).values == {"correct": right}


@pytest.mark.parametrize(
    ("checker", "good", "bad", "message"),
    [
        ("choice", "(B)", "BC", "is no single letter"),
        ("contains", "x", " ", "is empty"),
        ("regex", "a+", "a(", "is no regular expression"),
        ("math", "\\frac12", "\\frac{1}{", "is no mathematics"),
        ("math", "[2,5)", "", "is no mathematics"),
        ("math", "\\text{Evelyn}", "\\nothing", "is no mathematics"),
    ],
)
def test_a_gold_answer_that_nothing_could_match_is_a_problem(checker, good, bad, message):
    assert CHECKERS[checker].problem(good) is None
    assert message in CHECKERS[checker].problem(bad)
