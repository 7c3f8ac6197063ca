import pytest

from lorafuse_jax.evaluation.checkers.exact import CHECKER, find, matches


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Paris.\nIt is in France.", "paris"),
        ("\n\n  The  Hague!", "the hague"),
        ("I think so.\n#### Rome\n", "rome"),
        ("a\n#### b\n#### C c", "c c"),
        ("...\nno", "no"),
        (" <= \n>", "<="),
        (" \n", None),
        ("", None),
        ("\u00c9t\u00e9", "\u00e9t\u00e9"),
    ],
)
def test_the_answer_is_the_first_line_or_what_is_marked(text, found):
    assert find(text) == found


def test_matching_is_of_words_and_nothing_never_matches():
    assert matches(find("new  york"), "New York.")
    assert not matches(find("york new"), "New York")
    assert not matches(find(""), "x")
    assert matches(find("< ="), "<=") and not matches(find("<"), "<=")
    assert "is empty" in CHECKER.problem(" ") and CHECKER.problem("--") is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("(0, -5)", "(0, 5)", False),
        ("-5", "5", False),
        ("3.5", "3 5", False),
        ("1,000 apples", "1,000 Apples.", True),
        ("well-known", "well known", True),
        ("A-5", "a 5", True),
    ],
)
def test_numbers_keep_their_signs_and_digits(one, other, same):
    assert CHECKER.problem(other) is None
    assert matches(find(one), other) == same
