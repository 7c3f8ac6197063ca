from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafuse_jax.evaluation.checkers.number import CHECKER, extract, find, matches


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("He has 3 + 4 = 7 apples.\n#### 7", "7"),
        ("#### 5\nso 6\n#### 8 apples", "8"),
        ("The answer is 1,234.50 dollars.", "1,234.50"),
        ("3 and then -4", "-4"),
        ("#### none, but 12", "12"),
        ("#### nothing", None),
        ("so 7\n#### ", "7"),
        ("no number here", None),
        ("", None),
        ("It is 42.", "42"),
        ("10-4", "4"),
        ("(10)-4", "4"),
        ("(-3)", "-3"),
        ("x = -3", "-3"),
        ("he owes -$5", "-5"),
        ("he owes $-5", "-5"),
        ("it is \N{MINUS SIGN}4", "-4"),
        ("#### $1,234.", "1,234"),
        ("#### **18**", "18"),
        ("5%", "5"),
        ("costs $.75", ".75"),
        ("12,34", "34"),
        ("#### 1/2", "1/2"),
        ("it is 3/4", "3/4"),
    ],
)
def test_extract_takes_the_marked_or_last_number(text, found):
    assert extract(text) == found


NUMBERS = st.decimals(-(10**9), 10**9, places=2) | st.integers(-(10**9), 10**9)


@given(NUMBERS, st.sampled_from(["#### {}", "So it is {:,}.", "7 - 2 and ${:,}!", "= {} apples"]))
def test_extract_finds_a_written_number_again(number, phrase):
    assert matches(extract(phrase.format(number)), str(number))


@given(st.text())
def test_extract_of_any_text_is_nothing_or_something_in_it(text):
    found = extract(text)
    assert found is None or found.lstrip("-+") in text


@given(NUMBERS, NUMBERS)
def test_matching_means_equal_numbers(first, second):
    assert matches(str(first), str(second)) == (Decimal(first) == Decimal(second))


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ("1,050.0", "1050", True),
        ("$7", "7", True),
        ("3.50", "3.5", True),
        ("-4", "4", False),
        ("3.14", "3.1", False),
        (None, "3", False),
        ("12", "120", False),
        ("1/2", "0.5", False),
        ("1/2", "1", False),
        ("nan", "3", False),
        ("7", "7.", True),
    ],
)
def test_matches_compares_exact_numbers(prediction, reference, right):
    assert matches(prediction, reference) is right


@pytest.mark.parametrize("gold", ["", "seven", "1/2", "nan", "inf"])
def test_a_gold_answer_that_is_no_number_is_a_problem(gold):
    assert "is no number" in CHECKER.problem(gold)
    assert CHECKER.problem("1,050.0") is None


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (("3", "3.0", "it is 3.00", "#### $3"), "3"),
        (("1,050", "1050.0", "#### 1050."), "1050"),
        (("-0.50", "-.5"), "-0.5"),
        (("100", "1e9 or 100"), "100"),
        (("1/2",), "1/2"),
        (("none", ""), None),
        (("0", "-0"), "0"),
    ],
)
def test_equal_numbers_are_found_as_equal_texts(texts, found):
    assert {find(text) for text in texts} == {found}


def test_numbers_of_many_digits_lose_none():
    digits = "123456789012345678901234567890"
    assert find(f"so {digits}") == digits and find(f"so {digits}.50") == f"{digits}.5"
    assert matches(find(digits), digits) and find(digits[:-1] + "1") != digits
