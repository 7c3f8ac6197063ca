"""Overlap of test and training data, against sets of n-grams as they are written down."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorafuse_jax.data import contamination as module
from lorafuse_jax.data.contamination import contamination
from lorafuse_jax.data.rows import Example
from lorafuse_jax.types import UserError


def examples(texts, file, completion="fine"):
    return [Example(str(n), t, completion, None, f"{file}:{n}") for n, t in enumerate(texts, 1)]


def grams_of(words, n):
    return {tuple(words[k : k + n]) for k in range(len(words) - n + 1)}


def plain_shares(train, test, n):
    """Share of n-grams found for each test example; whole prompts where it is shorter."""
    seen = set()
    for one in train:
        seen |= grams_of(f"{one.prompt} {one.completion}".split(), n)
    shares = {}
    for one in test:
        words = one.prompt.split()
        grams = [tuple(words[k : k + n]) for k in range(len(words) - n + 1)]
        if len(words) < n:
            share = float(any(one.prompt == other.prompt for other in train))
        else:
            share = np.mean([gram in seen for gram in grams])
        if share:
            shares[one.where] = share
    return shares


texts = st.lists(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=12).map(" ".join), min_size=1, max_size=8
)


@settings(max_examples=150, deadline=None)
@given(texts, texts, st.integers(1, 5))
def test_shares_equal_those_of_plain_sets(train_texts, test_texts, n):
    train, test = examples(train_texts, "train", "b c"), examples(test_texts, "test")
    found = contamination(train, test, n=n)
    shares = plain_shares(train, test, n)
    assert {one.where: one.share for one in found.worst} == pytest.approx(shares)
    assert found.overlapping == len(shares) and found.share == len(shares) / len(test)
    assert found.mostly == sum(share >= 0.7 for share in shares.values())
    assert [one.share for one in found.worst] == sorted(shares.values(), reverse=True)


def test_the_worst_name_both_places_across_portions(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 2)
    words = [f"w{n}" for n in range(40)]
    train = examples(
        ["nothing here", *(" ".join(words[k : k + 10]) for k in (0, 10, 20, 30))], "tr"
    )
    test = examples([" ".join(words[20:30]).upper() + "!", " ".join(words[5:15])], "te")
    found = contamination(train, test, n=3)
    assert found.worst[0] == ("te:1", "tr:4", 1.0)
    assert found.worst[1].where == "te:2" and found.worst[1].share == 0.75
    assert found.to_dict()["worst"][0]["train_where"] == "tr:4"


@pytest.mark.parametrize(("length", "n"), [(3, 8), (10, 10), (40, 13)])
def test_n_is_the_fifth_percentile_of_the_lengths_between_8_and_13(length, n):
    test = examples([" ".join(["w"] * length)] * 30 + [" ".join(["w"] * 60)] * 30, "test")
    assert contamination(examples(["x"], "train"), test).n == n


def test_answers_of_the_test_set_do_not_count_and_those_of_training_do():
    stock = "so the final answer that we get is clearly five"
    train = examples(["What is asked?"], "train", stock)
    assert contamination(train, examples(["Is it so?"], "test", stock), n=3).overlapping == 0
    assert contamination(train, examples([f"Why {stock}?"], "test"), n=3).overlapping == 1


def test_nothing_to_compare_raises():
    with pytest.raises(UserError, match="must be at least 1"):
        contamination(examples(["a"], "train"), [])
    with pytest.raises(UserError, match="must be at least 1"):
        contamination([], examples(["a"], "test"), n=0)
    assert contamination([], examples(["a b"], "test"), n=1).overlapping == 0
