import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from lorafuse_jax.evaluation.archive import Archive
from lorafuse_jax.evaluation.benchmark import Score
from lorafuse_jax.evaluation.records import append, read_answers, read_marks
from lorafuse_jax.types import UserError
from tests.evaluation.given import (
    ASKED,
    BENCHMARK,
    answer,
    answers,
    archive,
    question,
    scores,
)


def assert_same(found, expected):
    for name, value in asdict(expected).items():
        if name == "values":
            np.testing.assert_array_equal(found.primary, expected.primary)
        elif name == "log_likelihood":
            np.testing.assert_allclose(found.log_likelihood, value)
        else:
            assert getattr(found, name) == value, name


def test_matrix_does_not_depend_on_the_order_of_the_lines(tmp_path):
    shuffled = np.random.default_rng(3).permutation(np.array(answers(), dtype=object))
    assert_same(archive(tmp_path, list(shuffled)).scores(), scores())


def test_models_are_by_kind_and_number_and_some_may_be_left_out(tmp_path):
    names = ("ties", "seed-11", "seed-2", "seed-101", "base")
    kinds = ("fused", "seed", "seed", "seed", "base")
    rows = [
        replace(answer("base", 0, 0), model=name, kind=kind)
        for name, kind in zip(names, kinds, strict=True)
    ]
    made = archive(tmp_path, rows)
    assert made.scores().models == ["base", "seed-2", "seed-11", "seed-101", "ties"]
    assert made.scores(without={"ties", "base"}).models == ["seed-2", "seed-11", "seed-101"]


def test_an_adapter_that_changed_is_scored_by_its_new_answers_alone(tmp_path):
    made = archive(tmp_path)
    append(made.answers_path, [answer("base", n, 0, weights="new") for n in range(9)])
    assert made.score(BENCHMARK) == 9
    with pytest.raises(UserError, match="base lacks 1 of 10 examples, the first is e9"):
        made.scores()
    append(made.answers_path, [answer("base", 9, 0, weights="new")])
    assert made.score(BENCHMARK) == 1
    assert made.scores().primary[0].tolist() == [1] + [0] * 9


def test_everything_is_scored_once_and_anew_by_another_version(tmp_path):
    made = archive(tmp_path)
    assert made.score(BENCHMARK) == 0
    assert made.score(replace(BENCHMARK, version=2)) == 40
    made.scores_path.unlink()
    with pytest.raises(UserError, match="no score of base's answer to e0"):
        made.scores()
    assert made.score(BENCHMARK) == 40
    assert_same(made.scores(), scores())


def test_an_answer_that_breaks_the_scorer_counts_as_wrong_and_is_shown(tmp_path):
    def fails_on_99(questions, responses):
        faults = ["boom" if "99" in one.texts[0] else None for one in responses]
        return [Score(values={"correct": float(not fault)}, fault=fault) for fault in faults]

    made = archive(tmp_path)
    made.scores_path.unlink()
    made.score(replace(BENCHMARK, score=fails_on_99))
    found = made.scores()
    assert found.faults[0] == ["boom"] * 10 and found.faults[3] == [None] * 10
    np.testing.assert_array_equal(found.primary, scores().primary)


def test_incomplete_matrix_names_what_is_missing(tmp_path):
    made = archive(tmp_path, answers()[:-1])
    with pytest.raises(UserError, match="mean lacks 1 of 10 examples, the first is e9"):
        made.scores()


def test_examples_that_nobody_was_asked_yet_are_left_out(tmp_path):
    made = archive(tmp_path, answers(examples=range(8)))
    assert_same(made.scores(), scores(examples=range(8)))


def test_changed_data_and_other_settings_are_refused(tmp_path):
    made = archive(tmp_path)
    made.open_for(ASKED, [question(0, where="elsewhere/t.jsonl:1"), question(11)])
    assert len(made.questions()) == 11
    with pytest.raises(UserError, match=r"new.jsonl:1: the example e0 .*before \(t.jsonl:1\)"):
        made.open_for(ASKED, [question(0, gold="11", where="new.jsonl:1")])
    with pytest.raises(UserError, match="benchmark 'number' then, 'exact' now"):
        made.open_for(ASKED | {"benchmark": "exact"}, [])


def test_an_answer_to_what_was_not_asked_is_named(tmp_path):
    made = archive(tmp_path)
    append(made.answers_path, [answer("base", 77, 1)])
    with pytest.raises(UserError, match=r"answers.jsonl:41: an answer to e77, which was not asked"):
        made.score(BENCHMARK)


def test_files_survive_being_cut_at_any_byte(tmp_path):
    path = tmp_path / "answers.jsonl"
    append(path, [replace(one, texts=["Größe 漢\n"]) for one in answers()[:2]])
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        kept = read_answers(path)
        append(path, answers()[5:6])
        assert read_answers(path) == [*kept, answers()[5]]


LINE = asdict(answers()[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{}", "not a line of this file, which has the keys id, model"),
        (b"3", "not a line of this file"),
        (b"null", "not a line of this file"),
        (b'["task"]', "not a line of this file"),
        (b"half a li", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
        (json.dumps(LINE | {"greedy": [1]}).encode(), r"greedy is \[1\]; expected list"),
        (json.dumps(LINE | {"tokens": [True]}).encode(), r"tokens is \[True\]; expected list"),
        (json.dumps(LINE | {"weights": None}).encode(), "weights is None; expected str"),
        (json.dumps(LINE | {"kind": "soup"}).encode(), "kind is 'soup'; expected one of base"),
        (json.dumps(LINE | {"tokens": [0]}).encode(), "a reference of 0 tokens"),
        (json.dumps(LINE | {"log_probs": [float("nan")]}).encode(), "cannot be averaged"),
    ],
)
def test_damaged_line_is_named(tmp_path, line, message):
    path = tmp_path / "answers.jsonl"
    append(path, answers()[:2])
    path.write_bytes(path.read_bytes() + line + b"\n" + json.dumps(LINE).encode() + b"\n")
    with pytest.raises(UserError, match=rf"answers\.jsonl:3: .*{message}"):
        read_answers(path)


def test_damaged_scores_and_questions_are_named(tmp_path):
    made = archive(tmp_path)
    lines = made.scores_path.read_text().splitlines()
    made.scores_path.write_text(lines[0].replace("1.0", '"x"').replace("0.0", '"x"') + "\n")
    with pytest.raises(UserError, match=r"scores.jsonl:1: values is .*expected dict"):
        read_marks(made.scores_path)
    made.questions_path.write_text('{"id": "e0"}\n')
    with pytest.raises(UserError, match=r"questions.jsonl:1: no question"):
        made.questions()
    (made.path / "task.json").write_text("{")
    with pytest.raises(UserError, match=r"task\.json: cannot be read"):
        Archive(made.path).asked()
