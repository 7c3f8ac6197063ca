import pytest

from lorafuse_jax.worked import after_hashes, after_said, in_box, without_calculator


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"\boxed{1} then $\boxed{2}$.", "2"),
        (r"$\boxed{\frac{a^{2}}{b}}$", r"\frac{a^{2}}{b}"),
        (r"$\boxed{\left\{x \mid x>0\right.}$", r"\left\{x \mid x>0\right."),
        (r"$\fbox{C}$", "C"),
        (r"$\boxed 5$ apples", "5"),
        (r"$\boxed{\text{(A) }}$ and so on", r"\text{(A) }"),
        (r"$\boxed{1, 2$", None),
        ("no box", None),
    ],
)
def test_answer_is_the_last_box_with_balanced_braces(solution, answer):
    assert in_box(solution) == answer


def test_other_answers_stand_after_their_mark():
    assert after_hashes("a #### 1\n#### 12,345 ") == "12345"
    assert after_hashes("none") is None
    assert after_said("The answer is: 1. The answer is: x+1") == "x+1"
    assert after_said("It is 2") is None


def test_calculator_marks_are_left_out():
    assert without_calculator("48/2 = <<48/2=24>>24 < 30 << 1") == "48/2 = 24 < 30 << 1"
