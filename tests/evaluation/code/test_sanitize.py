"""The program that is found in an answer is the one that EvalPlus finds.

``evalplus_sanitized.json`` has texts, and what ``evalplus.sanitize.sanitize`` (evalplus 0.3.1, with
tree-sitter-python 0.25) made of them.
"""

import ast
import json
from pathlib import Path

import pytest

from lorafuse_jax.evaluation.code.sanitize import longest_python, sanitize

RECORDED = json.loads((Path(__file__).parent / "evalplus_sanitized.json").read_text())


@pytest.mark.parametrize("name", RECORDED)
def test_program_is_that_of_evalplus(name):
    recorded = RECORDED[name]
    found = sanitize(recorded["text"], recorded["entry_point"])
    if name == "comment at the end":
        # Comments are no part of a syntax tree.
        assert ast.dump(ast.parse(found)) == ast.dump(ast.parse(recorded["sanitized"]))
    else:
        assert found == recorded["sanitized"]


def test_long_answer_is_searched_in_little_time():
    # Every run of these lines is Python: were all tried, there would be two million.
    text = "x = 1\n" * 2000
    assert longest_python(text) == text.rstrip("\n")


@pytest.mark.parametrize("text", ["(" * 5000, "-" * 100_000 + "1", "\0\n\0", "'\ud800'\n1", "\n\n"])
def test_no_text_breaks_the_search(text):
    assert isinstance(sanitize(text, "f"), str)
