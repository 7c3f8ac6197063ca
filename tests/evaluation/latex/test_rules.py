"""The string rules agree with lm-eval's on any text."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lm_eval.tasks.hendrycks_math import utils as hendrycks_harness
from lm_eval.tasks.minerva_math import utils as minerva_harness

from lorafuse_jax.evaluation.latex import hendrycks, minerva

PIECES = [
    *("\\frac", "\\tfrac", "\\dfrac", "\\sqrt", "\\sqrt[3]", "\\left(", "\\right)", "^\\circ"),
    *("^{\\circ}", "\\text{ cm}", "\\text{ ", "\\text{and}", "\\text{m}", "\\mbox{in}", "\\%"),
    *("\\!", "\\\\", "\\$", "$", "=", "x=", "{", "}", "{.", " .", ".", "/", "0.5", ".5", "3", "12"),
    *("1,000", ",", " ", "\n", "a ", "an ", "cm", " ft", "units", "\\infty", "\\pi", "-", "i"),
    *("\\boxed{", "\\textbf{", "\\overline{", '"', "{,}", "\\ldots", "\\ ", "\\mathrm{th}", "x"),
]
FORMULAS = st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=9).map("".join)


@settings(max_examples=600, deadline=None)
@given(left=FORMULAS, right=FORMULAS)
@example(left="\\frac12", right="1/2")
@example(left="0.5", right="\\frac{1}{2}")
@example(left="x=5", right="5")
@example(left="xy=5", right="5")
@example(left="12\\text{ cm}", right="12")
@example(left="\\text{ a}\\text{ b}", right="")
@example(left="\\sqrt", right="\\sqrt")
@example(left="\\frac1", right="\\frac1 ")
@example(left="\\frac1\\frac", right="\\frac{1}")
@example(left="a/b", right="a / b")
def test_hendrycks_rules_are_the_published_ones(left, right):
    assert hendrycks.equal(left, right) == hendrycks_harness.is_equiv(left, right)
    for one in (left, right):
        assert hendrycks.equal(one, one) and hendrycks_harness.is_equiv(one, one)
        spaced = one.replace("3", " 3 ")
        assert hendrycks.equal(one, spaced) == hendrycks_harness.is_equiv(one, spaced)


@settings(max_examples=600, deadline=None)
@given(FORMULAS)
def test_hendrycks_rules_write_every_formula_alike(formula):
    try:
        expected = hendrycks_harness.strip_string(formula)
    except (AssertionError, IndexError, ValueError):
        with pytest.raises(hendrycks.Unreadable):
            hendrycks.canonical(formula)
    else:
        assert hendrycks.canonical(formula) == expected


@settings(max_examples=600, deadline=None)
@given(FORMULAS)
@example("x = 3\\text{ cm}")
@example("\\left(1,234\\right) ft")
@example("10,000")
@example("0,1")
@example("\\sqrt[3]2+\\sqrt3+\\frac12")
def test_minerva_writes_every_formula_as_the_harness_does(formula):
    assert minerva.canonical(formula) == minerva_harness.normalize_final_answer(formula)


ENDINGS = ["Final Answer: The final answer is", " $2$", ". I hope it is", " correct.", ".", "\n"]


@given(st.lists(st.sampled_from(ENDINGS), max_size=9).map("".join))
@example("Final Answer: The final answer is $[2,5)$. I hope it is correct. And so on.")
def test_minerva_finds_the_answer_where_the_harness_does(text):
    assert minerva.final_answer(text) == minerva_harness.get_unnormalized_answer(text)
