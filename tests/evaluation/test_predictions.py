import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from lorafuse_jax.evaluation.predictions import append, done, read, scores_by_task
from lorafuse_jax.types import UserError
from tests.evaluation.given import row, rows


def test_scores_do_not_depend_on_the_order_of_the_lines():
    shuffled = np.random.default_rng(3).permutation(np.array(rows(), dtype=object))
    expected, scores = scores_by_task(rows())[0], scores_by_task(list(shuffled))[0]
    assert scores.kinds == expected.kinds == ["base", "seed", "seed", "fused"]
    place = [expected.ids.index(example) for example in scores.ids]
    for number, model in enumerate(scores.models):
        other = expected.models.index(model)
        np.testing.assert_array_equal(scores.correct[number], expected.correct[other][place])
        np.testing.assert_array_equal(scores.logprob[number], expected.logprob[other][place])


def test_tasks_are_kept_apart():
    mixed = rows() + [replace(one, task="u/test", correct=False) for one in rows()]
    first, second = scores_by_task(mixed)
    assert (first.task, second.task) == ("t/test", "u/test")
    assert first.correct.sum() == 18 and second.correct.sum() == 0


def test_log_likelihood_is_per_token():
    one = scores_by_task([row("base", "base", 0, "1", logprob=-6.0, tokens=3)])[0]
    assert one.logprob.tolist() == [[-2.0]]


def test_incomplete_matrix_names_what_is_missing():
    with pytest.raises(UserError, match="mean lacks 1 of 10 examples, the first is e9"):
        scores_by_task(rows()[:-1])


def test_models_asked_for_different_answers_are_refused():
    changed = [*rows()[:-1], replace(rows()[-1], reference="11")]
    with pytest.raises(UserError, match=r"e9: mean was asked for '11'.*base for '9'"):
        scores_by_task(changed)


def test_predictions_survive_a_torn_last_line(tmp_path):
    path = tmp_path / "predictions.jsonl"
    append(path, rows()[:3])
    with path.open("a") as file:
        file.write('{"task": "t/te')
    assert read(path) == rows()[:3]
    append(path, rows()[3:5])
    assert read(path) == rows()[:5]
    assert done(path) == {("t/test", f"e{n}", "base") for n in range(5)}


def test_predictions_survive_being_cut_at_any_byte(tmp_path):
    path = tmp_path / "predictions.jsonl"
    append(path, [replace(one, text="Größe 漢\n") for one in rows()[:2]])
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        kept = read(path)
        append(path, rows()[5:6])
        assert read(path) == [*kept, rows()[5]]


LINE = asdict(rows()[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{}", "not a prediction"),
        (b"3", "not a prediction"),
        (b"null", "not a prediction"),
        (b'["task"]', "not a prediction"),
        (b"half a li", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
        (json.dumps(LINE | {"correct": 1}).encode(), "correct is 1; expected bool"),
        (json.dumps(LINE | {"tokens": True}).encode(), "tokens is True; expected int"),
        (json.dumps(LINE | {"text": None}).encode(), "text is None; expected str"),
        (json.dumps(LINE | {"kind": "soup"}).encode(), "kind is 'soup'; expected one of base"),
        (json.dumps(LINE | {"tokens": 0}).encode(), "over 0 tokens cannot be averaged"),
        (json.dumps(LINE | {"logprob": float("nan")}).encode(), "log-probability of nan"),
    ],
)
def test_damaged_line_is_named(tmp_path, line, message):
    path = tmp_path / "predictions.jsonl"
    append(path, rows()[:2])
    path.write_bytes(path.read_bytes() + line + b"\n" + json.dumps(LINE).encode() + b"\n")
    with pytest.raises(UserError, match=rf"predictions\.jsonl:3: .*{message}"):
        read(path)
