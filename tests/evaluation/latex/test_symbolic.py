"""math-verify in its process says what it says here, and nothing that a formula does gets out."""

import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
from math_verify import parse, verify

from lorafuse_jax.evaluation.latex import symbolic as module
from lorafuse_jax.evaluation.latex.symbolic import Symbolic, check_installed
from lorafuse_jax.types import UserError

CASES = [
    ("\\frac12", "The answer is: 0.5"),
    ("\\frac{1}{2}", "so $\\boxed{\\frac12}$."),
    ("[2,5)", "the domain is $[2, 5)$"),
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "$\\boxed{(3, \\pi/2)}$"),
    ("(3, 4)", "$(4, 3)$"),
    ("x^2+2x+1", "\\boxed{(x+1)^2}"),
    ("\\text{Evelyn}", "It is \\boxed{\\text{Evelyn}}"),
    ("5", "x=5"),
    ("5", "$x = 5$ and $y = 6$"),
    ("10\\%", "0.1"),
    ("1,234", "1234"),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "$\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}$"),
    ("\\$18.90", "The answer is 18.9"),
    ("1,2", "\\boxed{1} and \\boxed{2}"),
    ("90^\\circ", "\\boxed{90}"),
    ("2\\sqrt{3}", "3.4641016151377544"),
    ("\\infty", "\\fbox{\\infty}"),
    ("3", "\\boxed{1/0}"),
    ("3", "\\boxed{"),
    ("3", "\ud800 \x00 {{{ \\frac{"),
    ("3", ""),
    ("\\frac{", "\\frac{"),
]


@pytest.fixture(scope="module")
def symbolic():
    with Symbolic() as opened:
        yield opened


@pytest.mark.parametrize(("gold", "text"), CASES)
def test_verdicts_are_those_of_math_verify(symbolic, gold, text):
    assert symbolic.verify(gold, text).right == verify(parse(f"${gold}$"), parse(text))


def test_equal_answers_are_mostly_written_alike(symbolic):
    for texts in (
        ("0.5", "1/2", "$\\frac12$", "\\boxed{.50}"),
        ("$3,4$ no, 7", "so 7.0", "x is 7"),
    ):
        assert len({symbolic.verify("1", text).answer for text in texts}) == 1
    assert symbolic.verify("1", "nothing here").answer is None
    assert symbolic.verify("1", "$\\frac{$").answer is not None


def test_formulas_are_equal_if_their_difference_is_nothing(symbolic):
    assert symbolic.equal("\\frac{1}{2}", "0.5").right
    assert symbolic.equal("(x+1)^2", "x^2+2x+1").right
    assert not symbolic.equal("(x+1)^2", "x^2+2x").right
    assert not symbolic.equal("[2,5)", "[2,5").right
    assert not symbolic.equal("", "").right


ENDLESS = "\\boxed{9^{9^{9^{9}}}}"


def test_a_formula_without_end_is_wrong_and_the_next_one_is_answered():
    with Symbolic(seconds=3.0) as symbolic:
        verdict = symbolic.verify("3", ENDLESS)
        assert not verdict.right and "sympy came to no end in 3 s" in verdict.fault
        assert symbolic.verify("3", "\\boxed{3}").right
        verdict = symbolic.equal("3", "9^{9^{9^{9}}}")
        assert not verdict.right and "no end" in verdict.fault
        assert symbolic.equal("3", "3.0").right


def test_what_math_verify_gives_up_is_a_fault(tmp_path):
    with Symbolic() as symbolic:
        verdict = symbolic.verify("3", ENDLESS)
    assert not verdict.right and verdict.fault == "Timeout during comparison"


def test_a_child_that_is_killed_or_interrupted_costs_one_answer():
    with Symbolic() as symbolic:
        assert symbolic.verify("3", "3").right
        child = symbolic._child
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        assert "died" in symbolic.verify("3", "3").fault
        assert symbolic.verify("3", "3").right
        last = symbolic._child
    assert last.poll() is not None


def test_the_child_ends_with_its_parent():
    program = (
        "from lorafuse_jax.evaluation.latex.symbolic import Symbolic\n"
        "symbolic = Symbolic(2.0)\n"
        "symbolic.verify('1', '1')\n"
        "print(symbolic._child.pid, flush=True)\n"
        f"symbolic.verify('1', r'{ENDLESS}')\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    for _ in range(200):
        if not _runs(child):
            return
        time.sleep(0.1)
    pytest.fail("the child outlives its parent")


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_is_missing_is_told(monkeypatch, tmp_path):
    broken = tmp_path / "child.py"
    broken.write_text("import no_such_library\n")
    monkeypatch.setattr(module, "CHILD", broken)
    with (
        Symbolic() as symbolic,
        pytest.raises(UserError, match=r"No module named 'no_such.*\[eval"),
    ):
        symbolic.verify("1", "1")
    monkeypatch.setattr(module, "version", lambda name: "4.13.2")
    with pytest.raises(UserError, match=r"antlr 4\.11, here is 4\.13\.2"):
        check_installed(latex_of_sympy=True)
    check_installed()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed; pip install 'lorafuse-jax\[eval\]'"):
        check_installed()
    assert metadata.version("antlr4-python3-runtime").startswith(module.ANTLR)
