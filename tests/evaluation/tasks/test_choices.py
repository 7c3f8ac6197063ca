"""Prompts and scores of benchmarks with choices, against lm-eval's own tasks on the same rows."""

import numpy as np
import pytest

from lorafuse_jax.evaluation.benchmark import Response
from lorafuse_jax.evaluation.tasks import BENCHMARKS
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.benchmarks import pose
from tests.evaluation.tasks.peer import FOLDER, asked, rows_of, task_of, write

PIECES = ("word, Two  spaces", "  [title] ", "[step]", "é漢 ", "\n", "I'm. ", "a [b] c", "{{x}} ")
PIECES += ("3 % ", "\t", "ends. ", "  ")
SUBJECTS = ("abstract_algebra", "high_school_us_history", "us_foreign_policy", "anatomy")


class Draw:
    """Random texts."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def text(self):
        return "x" + "".join(self.rng.choice(PIECES, self.rng.integers(1, 6))) + "y"

    def texts(self, least, most):
        return [f"{n}{self.text()}" for n in range(self.rng.integers(least, most + 1))]

    def index(self, count):
        return int(self.rng.integers(count))

    def boolq(self):
        row = {"passage": self.text(), "question": self.text(), "label": self.index(2)}
        return row

    def arc(self):
        texts = self.texts(3, 5)
        labels = [str(n + 1) if self.index(2) else "ABCDE"[n] for n in range(len(texts))]
        choices = {"text": texts, "label": labels}
        return {
            "id": f"q{self.rng.integers(10**9)}",
            "question": self.text(),
            "choices": choices,
            "answerKey": labels[self.index(len(labels))],
        }

    def hellaswag(self):
        row = {"activity_label": self.text(), "ctx_a": self.text(), "ctx_b": self.text()}
        return row | {"endings": self.texts(4, 4), "label": str(self.index(4))}

    def truthfulqa(self):
        one = self.texts(3, 6)
        two = [*one[::-1], *(f"more {t}" for t in self.texts(0, 3))]
        labels = [1] + [0] * (len(two) - 2) + [1]
        return {
            "question": self.text(),
            "mc1_targets": {"choices": one, "labels": [1] + [0] * (len(one) - 1)},
            "mc2_targets": {"choices": two, "labels": labels},
        }

    def mmlu(self):
        row = {"question": self.text(), "subject": SUBJECTS[0]}
        return row | {"choices": self.texts(4, 4), "answer": self.index(4)}


FILES = {
    "boolq": ("super_glue/boolq/default.yaml", "boolq"),
    "arc-easy": ("arc/arc_easy.yaml", "arc"),
    "arc-challenge": ("arc/arc_challenge.yaml", "arc"),
    "hellaswag": ("hellaswag/hellaswag.yaml", "hellaswag"),
    "mmlu": ("mmlu/default/mmlu_abstract_algebra.yaml", "mmlu"),
    "truthfulqa-mc1": ("truthfulqa/truthfulqa_mc1.yaml", "truthfulqa"),
}
SPLITS = ("train", "validation", "test", "dev")


def given(folder, kind, count, seed):
    """Random rows and what lm-eval makes of them: the same rows in every split."""
    draw = Draw(seed)
    path = write(folder / "rows.jsonl", [getattr(draw, kind)() for _ in range(count)])
    return rows_of(path), dict.fromkeys(SPLITS, path)


def some_log_probs(rng, count):
    """Log-probabilities, among which ties and extremes are common."""
    kinds = [rng.normal(-20, 9, count), rng.integers(-3, 0, count), rng.normal(-9e3, 1e3, count)]
    return [float(x) for x in kinds[rng.integers(3)]]


@pytest.mark.parametrize("name", FILES)
def test_prompts_choices_and_scores_are_those_of_lm_eval(name, tmp_path):
    file, kind = FILES[name]
    rows, splits = given(tmp_path, kind, 25, seed=None)
    task = task_of(tmp_path, file, splits)
    benchmark = BENCHMARKS[name]
    questions = benchmark.questions(rows, "lm-eval")
    rng = np.random.default_rng()
    for question, (document, pairs) in zip(questions, asked(task), strict=True):
        assert [(question.prompt, reference) for reference in question.references] == pairs
        for _ in range(5):
            log_probs = some_log_probs(rng, len(pairs))
            expected = task.process_results(document, [(x, False) for x in log_probs])
            (found,) = benchmark.score([question], [Response(log_probs=tuple(log_probs))])
            assert found.fault is None and found.answer == str(int(np.argmax(log_probs)))
            for metric, value in expected.items():
                assert found.values[metric] == value, (metric, log_probs)


def test_truthfulqa_scores_mc1_and_mc2_from_one_question(tmp_path):
    rows, splits = given(tmp_path, "truthfulqa", 20, seed=5)
    tasks = [task_of(tmp_path, f"truthfulqa/truthfulqa_mc{n}.yaml", splits) for n in (1, 2)]
    benchmark = BENCHMARKS["truthfulqa"]
    questions = benchmark.questions(rows, "")
    rng = np.random.default_rng()
    for question, of_one, of_two in zip(questions, *map(asked, tasks), strict=True):
        known = dict(
            zip(question.references, some_log_probs(rng, len(question.references)), strict=True)
        )
        if min(known.values()) < -500:  # where lm-eval's exp gives 0 / 0
            known = {text: value / 50 for text, value in known.items()}
        (found,) = benchmark.score([question], [Response(log_probs=tuple(known.values()))])
        for metric, task, (document, pairs) in zip(
            ("mc1", "mc2"), tasks, (of_one, of_two), strict=True
        ):
            assert {prompt for prompt, _ in pairs} == {question.prompt}
            results = [(known[continuation], False) for _, continuation in pairs]
            expected = task.process_results(document, results)["acc"]
            assert found.values[metric] == pytest.approx(expected, rel=1e-9), metric


def test_truthfulqa_shares_probability_where_it_would_vanish(tmp_path):
    rows, _ = given(tmp_path, "truthfulqa", 1, seed=5)
    (question,) = BENCHMARKS["truthfulqa"].questions(rows, "")
    far = (-5000.0,) * len(question.references)
    (found,) = BENCHMARKS["truthfulqa"].score([question], [Response(log_probs=far)])
    true, false = len(question.gold["true"]), len(question.gold["false"])
    assert found.values["mc2"] == pytest.approx(true / (true + false))


def test_mmlu_takes_five_examples_of_the_subject_in_order(tmp_path):
    draw = Draw(8)
    mixed = [draw.mmlu() | {"subject": SUBJECTS[n % 4]} for n in range(28)]
    folder = tmp_path / "copy"
    folder.mkdir()
    write(folder / "dev.jsonl", mixed)
    asked_rows = [draw.mmlu() | {"subject": SUBJECTS[n % 4]} for n in range(8)]
    write(folder / "test.jsonl", asked_rows)
    posed = pose(f"mmlu@5-shot:{folder}", None)
    assert [question.group for question in posed.questions] == [*SUBJECTS, *SUBJECTS]
    for subject in SUBJECTS:
        own = [row for row in mixed if row["subject"] == subject]
        splits = {"dev": write(tmp_path / "own.jsonl", own)}
        mine = [row for row in asked_rows if row["subject"] == subject]
        splits["test"] = write(tmp_path / "asked.jsonl", mine)
        task = task_of(tmp_path, f"mmlu/default/mmlu_{subject}.yaml", splits)
        ours = [q for q in posed.questions if q.group == subject]
        for question, (_, pairs) in zip(ours, asked(task, shots=5), strict=True):
            assert [(question.prompt, r) for r in question.references] == pairs
    write(folder / "dev.jsonl", [row for row in mixed if row["subject"] != "anatomy"])
    with pytest.raises(UserError, match=r"test.jsonl:4: 0 rows whose subject is 'anatomy' in the"):
        pose(f"mmlu@5-shot:{folder}", None)
    with pytest.raises(UserError, match="a file has no dev split"):
        pose(f"mmlu@5-shot:{folder / 'test.jsonl'}", None)


def test_every_subject_of_lm_eval_is_named_as_here(tmp_path):
    rows, _ = given(tmp_path, "mmlu", 1, seed=3)
    files = sorted((FOLDER / "mmlu/default").glob("mmlu_*.yaml"))
    assert len(files) == 57
    for file in files:
        rows[0].value["subject"] = file.stem.removeprefix("mmlu_")
        (question,) = BENCHMARKS["mmlu"].questions(rows, "")
        head = question.prompt.partition("\n")[0]
        assert f'"description": "{head}' in file.read_text().replace("\\\n  \\ ", " ")


def test_choices_in_a_chat_have_no_space_before_them(tmp_path):
    rows, _ = given(tmp_path, "arc", 3, seed=4)
    plain, chat = (BENCHMARKS["arc-easy"].questions(rows, name) for name in ("lm-eval", "chat"))
    for one, other in zip(plain, chat, strict=True):
        assert one.prompt == other.prompt
        assert one.references == tuple(" " + text for text in other.references)


@pytest.mark.parametrize(
    ("name", "kind", "changes", "message"),
    [
        ("boolq", "boolq", {"label": 2}, "the right choice is 2; expected an index from 0 to 1"),
        ("boolq", "boolq", {"label": -1}, "the right choice is -1; expected an index"),
        ("boolq", "boolq", {"label": 0.7}, "has not the form .*float"),
        ("boolq", "boolq", {"passage": None}, "no 'passage', which boolq needs; the line has"),
        ("hellaswag", "hellaswag", {"label": ""}, "has not the form of the original .*ValueError"),
        ("hellaswag", "hellaswag", {"endings": ["one"]}, "1 choices; two or more are needed"),
        ("hellaswag", "hellaswag", {"endings": ["one", "[a]"]}, "choice 1 is ''; expected a text"),
        ("hellaswag", "hellaswag", {"ctx_b": 3}, "has not the form .*AttributeError"),
        ("mmlu", "mmlu", {"choices": ["a", "b"]}, "2 choices, not 4"),
        ("mmlu", "mmlu", {"answer": 4}, "the right choice is 4; expected an index from 0 to 3"),
        ("mmlu", "mmlu", {"answer": "B"}, "the right choice is 'B'; expected an index"),
        ("arc-easy", "arc", {"answerKey": "Z"}, "'Z' is not in list"),
        ("arc-easy", "arc", {"choices": ["a", "b"]}, "has not the form .*TypeError"),
        ("arc-easy", "arc", {"id": "same"}, "the id 'same' is that of .*rows.jsonl:1 too"),
        ("truthfulqa-mc1", "truthfulqa", {"mc1_targets": {}}, "has not the form .*KeyError"),
        (
            "truthfulqa",
            "truthfulqa",
            {"mc2_targets": {"choices": ["a", "b"], "labels": [1, 1]}},
            "mc2 needs a true and a false choice",
        ),
        (
            "truthfulqa",
            "truthfulqa",
            {"mc2_targets": {"choices": ["a", "b"], "labels": [1]}},
            "2 choices of mc2, 1 labels",
        ),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(name, kind, changes, message, tmp_path):
    draw = Draw(2)
    good = getattr(draw, kind)() | ({"id": "same"} if "id" in changes else {})
    path = write(tmp_path / "rows.jsonl", [good, getattr(draw, kind)() | changes])
    with pytest.raises(UserError, match=rf"rows\.jsonl:2: .*{message}"):
        pose(f"{name}:{path}", None)
