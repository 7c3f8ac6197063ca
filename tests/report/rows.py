"""Rows of a table made by hand."""

from lorafuse_jax.evaluation.statistics import Comparison, Interval, conclude
from lorafuse_jax.evaluation.summary import Row, Summary


def gain(value, low, high, seeds=2):
    interval = Interval(float(value), float(low), float(high))
    return Comparison(interval, 0.01, 0.05, interval, interval, 0.1, seeds)


def row_of(name, comparison, p, margin=0.02):
    finding = conclude(comparison.difference, float(p), margin=margin, seeds=comparison.seeds)
    accuracy = Interval(0.5, 0.4, 0.6)
    tested = {"accuracy_gain": comparison, "accuracy_p": p, "finding": finding}
    return Row(name, "fused", accuracy, None, **tested)


def summary_of(*tested_rows, twins=()):
    return Summary("t/test", 200, list(tested_rows), "seed-1", 0.05, list(twins))
