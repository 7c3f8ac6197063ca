import pytest

from lorafuse_jax.evaluation.answers import extract, is_correct, majority_vote


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("He has 3 + 4 = 7 apples.\n#### 7", "7"),
        ("#### 5\nso 6\n#### 8 apples", "8"),
        ("The answer is 1,234.50 dollars.", "1,234.50"),
        ("3 and then -4", "-4"),
        ("#### none, but 12", "12"),
        ("#### nothing", None),
        ("no number here", None),
        ("", None),
        ("It is 42.", "42"),
    ],
)
def test_extract_takes_the_marked_or_last_number(text, found):
    assert extract(text) == found


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
    ],
)
def test_is_correct_compares_exact_numbers(prediction, reference, right):
    assert is_correct(prediction, reference) is right


@pytest.mark.parametrize(
    ("predictions", "vote"),
    [
        (["3", "4", "3.0"], "3"),
        (["5", "4", "3"], "5"),
        ([None, "4", None], "4"),
        ([None, None], None),
        ([None, "2", "1", "1.0"], "1"),
    ],
)
def test_majority_vote(predictions, vote):
    assert majority_vote(predictions) == vote
