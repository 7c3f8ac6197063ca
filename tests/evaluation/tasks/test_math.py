"""MATH: prompts and scores are those of lm-eval, MetaMath and math-verify."""

from functools import partial

import pytest
from lm_eval.tasks.hendrycks_math.utils import is_equiv
from math_verify import parse, verify

from lorafuse_jax.evaluation.benchmark import Response
from lorafuse_jax.evaluation.latex import symbolic
from lorafuse_jax.evaluation.tasks import BENCHMARKS, math
from lorafuse_jax.types import UserError
from tests.evaluation.harness_tasks import ask, rows_of

MATH = BENCHMARKS["math"]
SOLUTIONS = [
    "So $x\\ge2$ and $x<5$: $\\boxed{[2,5)}$.",
    "$$2\\cdot 12=\\boxed{24}.$$",
    "Thus $\\frac{a}{b}=\\boxed{-\\frac{2}{3}}.$",
    "The radius is $\\boxed{2\\sqrt{3}\\text{ cm}}$.",
    "We get $\\boxed{\\left( 3, \\frac{\\pi}{2} \\right)}.$",
    "There are $\\boxed{1,234}$ ways.",
    "It is $\\boxed{x^2+2x+1}$.",
    "The matrix is $\\boxed{\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}}$.",
    "She is $\\boxed{\\text{Evelyn}}$.",
    "It costs $\\boxed{\\$18.90}$.",
    "Half of it, $\\boxed{0.5}$.",
    "So $\\boxed{10\\%}$.",
    "No more than $\\boxed{90^\\circ}$.",
    "$\\boxed{5}$",
]
MINERVA_TEXTS = [
    " Thus.\nFinal Answer: The final answer is $[2,5)$. I hope it is correct.",
    " It is 24.",
    " Final Answer: The final answer is $\\frac{-2}{3}$. I hope it is correct.",
    " Final Answer: The final answer is $2\\sqrt3$ cm. I hope it is correct.",
    " Final Answer: The final answer is $(3,\\pi/2)$. I hope it is correct.",
    " Final Answer: The final answer is $1234$. I hope it is correct.",
    " Final Answer: The final answer is $(x+1)^2$. I hope it is correct. Then $7$",
    " Final Answer: The final answer is $\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}$",
    " Final Answer: The final answer is Evelyn. I hope it is correct.",
    " Final Answer: The final answer is $18.90",
    " $\\boxed{\\frac12}$. Final Answer: The final answer is \\frac{1}{2}. I hope it is correct.",
    "",
    " Final Answer: The final answer is $90$ degrees. I hope it is correct.",
    " Final Answer: The final answer is $\\frac{$. I hope it is correct.",
]


def math_rows():
    return [
        {
            "problem": f"Problem {n}: $\\frac1{n + 1}$?",
            "solution": solution,
            "level": "Level 5",
            "type": "Algebra" if n % 2 else "Counting & Probability",
        }
        for n, solution in enumerate(SOLUTIONS)
    ]


def posed(convention, rows, benchmark=MATH):
    return benchmark.questions(rows_of(rows), convention)


def respond(questions, texts):
    return MATH.score(questions, [Response(texts=(text,)) for text in texts])


def test_minerva_prompts_stops_and_scores_are_those_of_the_harness(tmp_path):
    rows = math_rows()
    task = "minerva_math/minerva_math_algebra.yaml"
    theirs = ask(tmp_path, task, {"train": rows, "test": rows}, MINERVA_TEXTS)
    questions = posed("minerva", rows)
    assert [question.prompt for question in questions] == theirs.prompts
    assert MATH.convention("minerva").decoding.stop_strings == theirs.stops
    scores = respond(questions, MINERVA_TEXTS)
    for ours, other in (("string", "exact_match,none"), ("math_verify", "math_verify,none")):
        found = [score.values[ours] for score in scores]
        assert found == [score[other] for score in theirs.scores], ours
        assert 3 < sum(found) < len(found)


def metamath_says(text, solution):
    """eval_math.py's rule, read and written anew, over the same string rules."""
    parts = text.split("The answer is: ")
    if len(parts) < 2:
        return False
    said = parts[-1].split(".\n")[0].strip()
    if said.endswith("."):
        said = said[:-1]
    return is_equiv(said.strip(), solution.rpartition("\\boxed{")[2].rpartition("}")[0])


METAMATH_TEXTS = [
    "The answer is: [2,5)",
    "Then The answer is: 24.\nAnd The answer is: 25",
    "The answer is: -\\frac23.",
    "The answer is: 2\\sqrt3",
    "The answer is: (3, \\dfrac{\\pi}{2}).\n\nMore",
    "The answer is: 1234",
    "The answer is: (x+1)^2",
    "\\boxed{\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}}",
    "The answer is: \\text{Evelyn}",
    "The answer is: 18.90",
    "The answer is: 1/2",
    "The answer is: 10",
    "The answer is 90",
    "The answer is: .",
]


def test_metamath_prompt_and_scores():
    rows = math_rows()
    questions = posed("", rows)
    assert questions[0].prompt.endswith(
        "### Instruction:\nProblem 0: $\\frac11$?\n\n### Response: Let's think step by step."
    )
    assert MATH.convention("").decoding.max_new_tokens == 2048
    scores = respond(questions, METAMATH_TEXTS)
    expected = [metamath_says(*pair) for pair in zip(METAMATH_TEXTS, SOLUTIONS, strict=True)]
    assert [score.values["string"] for score in scores] == expected
    assert 3 < sum(expected) < len(expected)
    answers = [text.rpartition("The answer is: ")[2] for text in METAMATH_TEXTS]
    answers = [answer.split(".\n")[0].removesuffix(".") for answer in answers]
    shown = [f"${answer}$" if "answer is " not in answer else answer for answer in answers]
    verified = [
        verify(parse(f"${q.gold}$"), parse(s)) for q, s in zip(questions, shown, strict=True)
    ]
    assert [score.values["math_verify"] for score in scores] == verified
    assert sum(verified) > sum(expected)
    by_solution = [verify(*map(parse, pair)) for pair in zip(SOLUTIONS, shown, strict=True)]
    different = [SOLUTIONS[n] for n, v in enumerate(verified) if v != by_solution[n]]
    # math-verify cannot read a percentage in a box, but reads the answer by itself.
    assert different == ["So $\\boxed{10\\%}$."]


def test_words_are_not_put_into_dollars():
    (question,) = posed("", [{"problem": "?", "solution": "$\\boxed{18}$"}])
    texts = ["18 dollars", "$18$, or 3^2", "\\$18", "\\$18.00", "19"]
    texts = ["so 18", *(f"The answer is: {text}" for text in texts)]
    scores = respond([question] * 6, texts)
    assert [score.values["math_verify"] for score in scores] == [1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("so $\\boxed{\\frac12}$ and $\\fbox{2}$, $\\boxed{\\frac 1 2}$", 1),
        ("$\\boxed{1}$ then \\fbox{\\frac{1}{2}}", 1),
        ("The answer is: $\\frac{1}{2}$.", 1),
        ("The answer is 1/2", 1),
        ("So\n#### 0.5\nand on", 1),
        ("\\boxed{2} The answer is 1/2", 0),
        ("1/2", 0),
        ("The answer is", 0),
        ("\\boxed{\\frac12", 0),
    ],
)
def test_the_trained_form_takes_the_last_box_or_what_is_said(text, right):
    (question,) = posed("trained", [{"problem": "?", "solution": "$\\boxed{\\frac{1}{2}}$"}])
    assert question.references == ("$\\boxed{\\frac{1}{2}}$",) and question.prompt == "?"
    (score,) = respond([question], [text])
    assert score.values["string"] == right


def test_ids_groups_and_answers_of_both_data_sets():
    questions = posed("", math_rows()[:2])
    assert [q.id for q in questions] == ["counting___probability-1", "algebra-2"]
    assert [q.group for q in questions] == ["Counting & Probability", "Algebra"]
    row = {"unique_id": "test/algebra/1.json", "subject": "Algebra", "answer": "24", "level": 2}
    row |= {"problem": "?", "solution": "$\\boxed{ 24 }$ or so"}
    (question,) = posed("", [row], BENCHMARKS["math-500"])
    assert (question.id, question.group, question.gold) == ("test/algebra/1.json", "Algebra", "24")


def test_formulas_without_end_are_wrong_with_their_fault_and_stop_nothing(monkeypatch):
    monkeypatch.setattr(math, "Symbolic", partial(symbolic.Symbolic, 3.0))
    questions = posed("minerva", math_rows()[:3])
    scores = respond(questions, ["\\boxed{9^{9^{9^{9}}}}", "\ud800 ((((", "\\boxed{-2/3}"])
    assert [score.values["math_verify"] for score in scores] == [0, 0, 1]
    assert "no end" in scores[0].fault and scores[2].fault is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"solution": "It is 5."}, r"no answer to compare with: neither 'answer', nor a .boxed"),
        ({"solution": "$\\boxed{5"}, "no answer to compare with"),
        ({"solution": "$\\boxed{}$"}, "no answer to compare with"),
        ({"solution": "", "answer": "\\frac{1}{"}, "the braces of the answer .* do not match"),
        ({"solution": "", "answer": "}{"}, "do not match"),
        ({"answer": "5"}, "no 'solution', which math needs; the line has problem, answer"),
        ({"solution": "\\boxed{5}", "id": 1}, r"the id '1' is that of t\.jsonl:1 too"),
    ],
)
def test_bad_rows_are_named(row, message):
    good = {"problem": "?", "solution": "$\\boxed{5}$", "id": "1"}
    with pytest.raises(UserError, match=rf"^t\.jsonl:2: .*{message}"):
        posed("", [good, {"problem": "?"} | row])


def test_without_math_verify_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(symbolic, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'lorafuse-jax\[eval\]'"):
        posed("", math_rows())
