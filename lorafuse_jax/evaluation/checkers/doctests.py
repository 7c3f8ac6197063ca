"""Functions to complete: the answer is run, and what it gives compared with doctests."""

from lorafuse_jax.evaluation.checkers.checker import Checker
from lorafuse_jax.evaluation.code.doctests import METRICS, STOPS, problem, score

CHECKER = Checker(
    name="doctest",
    about="the prompt begins a function, the answer goes on and is run: its doctests pass",
    score=score,
    problem=problem,
    metrics=METRICS,
    stop_strings=STOPS,
    runs_programs=True,
)
