"""How the evals registry and HumanEval are prepared, on small copies of their layout."""

import gzip
import json

import pytest

from lorafuse_jax.assets import evals_mixture
from lorafuse_jax.assets.evals_mixture import prepare_evals_english, prepare_evals_mixture
from lorafuse_jax.assets.human_eval import DATA, prepare_human_eval
from lorafuse_jax.data.examples import load_task


def turns(*pairs, **more):
    return [{"role": role, "content": content, **more} for role, content in pairs]


def asked(word):
    return turns(("system", f"Answer {word}."), ("user", f"Is {word} one?"))


@pytest.fixture
def registry(tmp_path):
    def write(task, rows, file="samples.jsonl"):
        folder = tmp_path / "source" / evals_mixture.DATA / task
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))

    return write


def prepared(tmp_path, prepare=prepare_evals_mixture):
    folder = tmp_path / "built"
    folder.mkdir()
    prepare(tmp_path / "source", folder)
    lines = {path.stem: path.read_text().splitlines() for path in folder.glob("*.jsonl")}
    return {split: [json.loads(line) for line in some] for split, some in lines.items()}


def test_the_first_rows_of_a_split_are_of_all_tasks(tmp_path, registry):
    for task in ("one", "two", "three"):
        rows = [{"input": asked(f"{task}{n}"), "ideal": "Yes"} for n in range(60)]
        registry(task, rows)
    first = prepared(tmp_path)["train"][:20]
    assert len({row["group"] for row in first}) >= 2


def test_registry_gives_short_questions_of_tasks_that_are_large_enough(tmp_path, registry):
    good = [{"input": asked(f"a{n}"), "ideal": ["Yes", "yes"]} for n in range(25)]
    other = [
        {"input": asked("long " * 300), "ideal": "Yes"},
        {"input": asked("b"), "ideal": "y" * 100},
        {"input": turns(("user", "Hi"), ("assistant", "Ho"), ("user", "x")), "ideal": "Yes"},
        {"input": turns(("system", "worked"), name="example_user"), "ideal": "Yes"},
        {"question": "other form"},
        good[0],
    ]
    registry("one", good + other)
    registry("small", [{"input": asked(f"s{n}"), "ideal": "No"} for n in range(19)])
    registry("copies", good)
    rows = [row for some in prepared(tmp_path).values() for row in some]
    assert sorted(row["id"] for row in rows) == sorted(f"copies-{n}" for n in range(1, 26))
    assert {row["prompt"] for row in rows} == {f"Answer a{n}.\n\nIs a{n} one?" for n in range(25)}
    assert all(row["completion"] == row["answer"] == "Yes" for row in rows)
    assert {row["group"] for row in rows} == {"copies"}
    assert json.loads((tmp_path / "built" / "task.json").read_text())["checker"] == "exact"


def test_tasks_are_cut_and_held_out_whole(tmp_path, registry, monkeypatch):
    monkeypatch.setattr(evals_mixture, "ALL", evals_mixture.ALL._replace(most=22))
    for task in range(60):
        rows = [{"input": f"Task {task}, question {n}?", "ideal": "No"} for n in range(20)]
        registry(f"task-{task}", rows[:10], "a.jsonl")
        registry(
            f"task-{task}",
            [*rows[10:], *({"input": f"{task} {n}", "ideal": "1"} for n in range(9))],
            "b.jsonl",
        )
    splits = prepared(tmp_path)
    assert sum(map(len, splits.values())) == 60 * 22
    names = {split: {row["group"] for row in rows} for split, rows in splits.items()}
    assert 1 <= len(names["transfer"]) <= 15 and not names["transfer"] & names["train"]
    assert names["train"] | names["transfer"] == {f"task-{task}" for task in range(60)}
    for rows in splits.values():
        tasks = [row["group"] for row in rows]
        assert len(set(tasks[:10])) > 0.6 * min(10, len(set(tasks)))
    load_task(tmp_path / "built")


def test_a_held_out_task_whose_instruction_is_trained_on_is_left_out(tmp_path, registry):
    """Which tasks are held out is in their names: of these, task-7, task-21 and task-27."""
    instruction = "You are given one word, and say in one word whether it is a word of the language"
    for task in range(30):
        other = f"Give the number that is {task} more than what comes here, and nothing but that"
        told = instruction if task in (1, 7) else other
        rows = [{"input": f"{told}: {task} {n}", "ideal": str(n)} for n in range(20)]
        registry(f"task-{task}", rows)
    splits = prepared(tmp_path)
    assert {row["group"] for row in splits["transfer"]} == {"task-21", "task-27"}
    trained = {row["group"] for row in splits["train"]}
    assert trained == {f"task-{n}" for n in range(30)} - {"task-7", "task-21", "task-27"}
    about = json.loads((tmp_path / "built" / "task.json").read_text())["about"]
    assert about == "29 tasks with short answers"


def test_the_english_selection_is_short_ascii_and_of_few_examples_a_task(tmp_path, registry):
    good = [{"input": f"Is {n} a number?", "ideal": "Yes"} for n in range(80)]
    registry("good", good)
    registry("other", [{"input": f"Ist {n} eine Größe?", "ideal": "Ja"} for n in range(30)])
    registry("answers", [{"input": f"What is {n}?", "ideal": "größer"} for n in range(30)])
    registry("long", [{"input": f"{n} " + "word " * 110, "ideal": "Yes"} for n in range(30)])
    registry("wordy", [{"input": f"Say {n}.", "ideal": "word " * 9} for n in range(30)])
    rows = [row for some in prepared(tmp_path, prepare_evals_english).values() for row in some]
    assert {row["group"] for row in rows} == {"good"} and len(rows) == 60
    about = json.loads((tmp_path / "built" / "task.json").read_text())
    assert (about["name"], about["checker"]) == ("evals-english", "exact")
    assert about["about"] == "1 tasks with short answers"


def test_human_eval_keeps_the_originals_keys_with_their_spaces(tmp_path):
    original = {
        "task_id": "HumanEval/0",
        "prompt": 'def one():\n    """One."""\n',
        "entry_point": "one",
        "canonical_solution": "    return 1\n",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
    }
    file = tmp_path / "source" / DATA
    file.parent.mkdir(parents=True)
    file.write_bytes(gzip.compress(json.dumps(original).encode() + b"\n"))
    built = tmp_path / "built"
    built.mkdir()
    prepare_human_eval(tmp_path / "source", built)
    row = json.loads((built / "test.jsonl").read_text())
    assert (
        row["signature"] + row["canonical_solution"] == 'def one():\n    """One."""\n    return 1\n'
    )
    assert (row["test"], row["entry_point"]) == (original["test"], "one")
    (example,) = load_task(built).splits["test"]
    assert (example.id, example.completion) == ("HumanEval/0", "return 1")
