"""Names of benchmarks, where their rows come from, and a tiny run that answers and is rescored."""

import json
import sys

import datasets
import pytest

from lorafuse_jax import cli
from lorafuse_jax.evaluation.checkers import CHECKERS
from lorafuse_jax.evaluation.tasks import BENCHMARKS
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow import evaluate as evaluate_module
from lorafuse_jax.workflow.benchmark_rows import rows_of
from lorafuse_jax.workflow.benchmarks import pose
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.tiny import write_sums, write_tiny_model


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sums(count, first=0):
    return [
        {"question": f"{n}+{n}?", "answer": f"#### {2 * n}"} for n in range(first, first + count)
    ]


@pytest.fixture
def hub(monkeypatch):
    """A hub with the repositories that a test puts into it."""
    repositories = {}

    def load_dataset(name, config=None, *, split):
        if (name, config, split) not in repositories:
            raise ConnectionError("no hub")
        return datasets.Dataset.from_list(repositories[name, config, split])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return repositories


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A cache with three small assets that count as fetched."""
    monkeypatch.setenv("LORAFUSE_CACHE", str(tmp_path / "cache"))
    one = {"id": "t26-7", "prompt": "How\nmany?", "completion": "So\n#### 9", "answer": "9"}
    files = {
        "gsm8k-100/test.jsonl": [one | {"id": "gsm8k-test-0013"}],
        "asdiv/test.jsonl": [one | {"id": "asdiv-5", "completion": "#### 9"}],
        "asdiv/validation.jsonl": [one, one],
        "gsm-symbolic/test.jsonl": [one | {"group": "template 26"}],
        "gsm-symbolic/transfer.jsonl": [one | {"id": "t48-1", "prompt": "Else?"}],
    }
    for name, rows in files.items():
        file = write_lines(tmp_path / "cache" / name, rows)
        (file.parent / "source.json").write_text('{"source": "package", "prepared": 2}')
    receipt = '{"source": "package"}'
    for name in ("gsm8k-100", "asdiv"):
        (tmp_path / "cache" / name / "source.json").write_text(receipt)


def test_a_benchmark_is_taken_from_the_hub_with_its_shots(hub):
    hub["openai/gsm8k", "main", "test"] = sums(4, 50)
    hub["openai/gsm8k", "main", "train"] = sums(7)
    posed = pose("gsm8k", 3)
    assert (posed.label, len(posed.questions)) == ("gsm8k@metamath", 3)
    assert posed.questions[0].where == "openai/gsm8k main test, row 1"
    posed = pose("gsm8k@5-shot", None)
    shown = "".join(f"Question: {n}+{n}?\nAnswer: #### {2 * n}\n\n" for n in range(5))
    assert posed.questions[1].prompt == f"{shown}Question: 51+51?\nAnswer:"
    assert pose("gsm8k/train@trained", None).label == "gsm8k/train@trained"
    hub["openai/gsm8k", "main", "train"] = sums(4)
    with pytest.raises(UserError, match="test, row 1: 4 rows in the split train, 5 worked"):
        pose("gsm8k@5-shot", None)


def test_the_subjects_of_math_are_asked_in_turn(hub):
    for n, subject in enumerate(BENCHMARKS["math"].source.configs):
        row = {"problem": f"{n}?", "solution": f"$\\boxed{{{n}}}$", "type": f"Type {n}"}
        hub["EleutherAI/hendrycks_math", subject, "test"] = [row] * (1 + n % 2)
    posed = pose("math", None)
    assert [q.gold for q in posed.questions] == [*"0123456", *"135"]
    assert {q.group for q in pose("math", 7).questions} == {f"Type {n}" for n in range(7)}


def test_without_a_hub_the_packaged_problems_are_asked_and_named_so(hub, cache, capsys):
    for name, id in (("gsm8k", "gsm8k-test-0013"), ("asdiv", "asdiv-5"), ("gsm-symbolic", "26-7")):
        posed = pose(f"{name}@8-shot-cot", None)
        assert posed.label == f"{name}-packaged@8-shot-cot"
        assert [(q.id, q.gold) for q in posed.questions] == [(id, "9")]
        assert posed.questions[0].prompt.endswith("Q: How\nmany?\nA:")
    printed = " ".join(capsys.readouterr().out.split())
    assert "gsm8k: openai/gsm8k cannot be loaded (ConnectionError); instead 1 problems" in printed
    posed = pose("gsm-symbolic/transfer@trained", None)
    assert (posed.label, posed.questions[0].group) == (
        "gsm-symbolic-packaged/transfer@trained",
        "48",
    )
    with pytest.raises(UserError, match=r"gsm8k-100 has no train\.jsonl"):
        pose("gsm8k@5-shot", None)
    with pytest.raises(UserError, match=r"hendrycks_math: .*no hub.*math:/path/to/it"):
        pose("math", None)


def test_data_sets_of_the_same_name_stay_data_sets(cache):
    posed = pose("gsm-symbolic/test", None)
    assert (posed.label, posed.benchmark.name) == ("gsm-symbolic/test", "own:number")
    assert posed.questions[0].group == "template 26" and posed.questions[0].prompt == "How\nmany?"
    assert pose("gsm-symbolic/transfer", None).questions[0].group == ""


@pytest.mark.parametrize("layout", ["flat", "hub", "parquet"])
def test_a_local_copy_may_be_laid_out_as_on_the_hub(tmp_path, layout):
    if layout == "parquet":
        (tmp_path / "main").mkdir()
        for split, rows in (("test", sums(3)), ("train", sums(5, 10))):
            file = tmp_path / "main" / f"{split}-00000-of-00001.parquet"
            datasets.Dataset.from_list(rows).to_parquet(file)
    else:
        folder = tmp_path / ("main" if layout == "hub" else "")
        write_lines(folder / "test.jsonl", sums(3))
        write_lines(folder / "train.jsonl", sums(5, 10))
    posed = pose(f"gsm8k@5-shot:{tmp_path}", None)
    assert (posed.label, len(posed.questions)) == (f"gsm8k:{tmp_path.name}@5-shot", 3)
    assert posed.questions[0].prompt.startswith("Question: 10+10?")


def test_what_cannot_be_asked_is_told(tmp_path):
    file = write_lines(tmp_path / "g.jsonl", [*sums(2), {"question": "?", "answer": "2"}])
    with pytest.raises(UserError, match=r"g\.jsonl:3: the answer does not end in '#### n'"):
        pose(f"gsm8k:{file}", None)
    with pytest.raises(UserError, match=r"g\.jsonl: a file has no train split to take worked"):
        pose(f"gsm8k@5-shot:{file}", None)
    with pytest.raises(UserError, match="has no convention 'x'"):
        pose(f"gsm8k@x:{file}", None)
    with pytest.raises(UserError, match="no benchmark 'gsm9k'; there are gsm8k"):
        pose("gsm9k@metamath", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty has no test\.jsonl"):
        pose(f"gsm8k:{tmp_path / 'empty'}", None)
    with pytest.raises(UserError, match=r"nowhere\.jsonl does not exist; name a file or folder of"):
        pose("gsm8k:~/nowhere.jsonl", None)


def test_a_benchmarks_name_means_the_benchmark_and_odd_paths_are_paths(tmp_path, monkeypatch):
    odd = tmp_path / "me@corp" / "gsm8k"
    write_lines(odd / "test.jsonl", [{"prompt": "1", "completion": "1", "answer": 1}])
    write_lines(odd / "train.jsonl", [{"prompt": "2", "completion": "2", "answer": 2}])
    assert pose(f"{odd}/test", None).benchmark.name == "own:number"
    with pytest.raises(UserError, match="no transfer examples; there are train, test"):
        pose(f"{odd}/transfer", None)
    monkeypatch.chdir(odd.parent)
    assert pose("./gsm8k", None).benchmark.name == "own:number"
    with pytest.raises(UserError, match="has no convention"):
        pose("gsm8k@nothing", None)
    write_lines(tmp_path / "math" / "algebra" / "test.jsonl", [{"problem": "?", "solution": ""}])
    with pytest.raises(UserError, match=r"math has no test\.jsonl .*counting_and_prob\S* neither"):
        pose(f"math:{tmp_path / 'math'}", None)


@pytest.mark.real
def test_the_real_packages_are_asked_in_every_convention(hub):
    counts = {"gsm8k": 95, "asdiv": 207, "gsm-symbolic": 240}
    for name, count in counts.items():
        for convention, chosen in BENCHMARKS[name].conventions.items():
            if not chosen.shots:
                posed = pose(f"{name}@{convention}", None)
                assert len(posed.questions) == count, posed.label
    groups = {question.group for question in pose("gsm-symbolic", None).questions}
    assert groups == {"43", "10", "58", "26", "6", "16"}
    assert len({q.group for q in pose("gsm-symbolic/transfer", None).questions}) == 12
    posed = pose("evals-mixture/transfer", None)
    assert posed.benchmark.name == "own:exact"
    assert len({question.group for question in posed.questions}) == 22
    posed = pose("code-pairs/transfer", None)
    assert (posed.label, posed.benchmark.name) == ("code-pairs/transfer", "own:doctest")
    assert {q.group for q in posed.questions} == {"more_itertools", "toolz", "pydash", "boltons"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = TrainConfig(
        model=str(write_tiny_model(folder / "model")),
        data=str(write_sums(folder / "sums")),
        seeds=(1, 2),
        rank=2,
        examples=8,
        examples_per_step=4,
        heldout_examples=4,
    )
    return train(config, folder / "run")


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["lorafuse", *map(str, words)])
    cli.main()


def test_a_run_answers_is_rescored_without_a_model_and_reported(run, tmp_path, monkeypatch, capsys):
    gsm = write_lines(tmp_path / "gsm.jsonl", sums(3))
    rows = [{"problem": f"${n}^2$?", "solution": f"$\\boxed{{{n * n}}}$"} for n in range(3)]
    maths = write_lines(tmp_path / "maths.jsonl", rows)
    own = [
        {"prompt": f"Half of {n}?", "completion": f"{n}/2", "answer": f"\\frac{{{n}}}{{2}}"}
        for n in range(20)
    ]
    own = write_lines(tmp_path / "own.jsonl", [row | {"group": row["prompt"][8]} for row in own])
    names = [f"gsm8k@metamath:{gsm}", f"math@trained:{maths}", own]
    command(monkeypatch, "evaluate", run.path, "--checker", "math", "--tasks", *names)
    folders = [
        run.evaluations_path / n for n in ("gsm8k-gsm@metamath", "math-maths@trained", "own-test")
    ]
    scores = {folder: (folder / "scores.jsonl").read_text() for folder in folders}
    values = [set(json.loads(text.splitlines()[0])["values"]) for text in scores.values()]
    assert values == [{"strict", "flexible"}, {"math_verify", "string"}, {"correct"}]

    # Answers as a better model would give them, which is then not asked again.
    for folder, said in zip(folders[:2], ("The answer is: {}", "\\boxed{{{}}}"), strict=True):
        questions = (folder / "questions.jsonl").read_text().splitlines()
        golds = {one["id"]: one["gold"] for one in map(json.loads, questions)}
        lines = (folder / "answers.jsonl").read_text().splitlines()
        answers = [json.loads(line) for line in lines]
        for one in answers:
            one["texts"] = [said.format(golds[one["id"]])]
        write_lines(folder / "answers.jsonl", answers)
    monkeypatch.setattr(evaluate_module, "load_evaluated", lambda run: pytest.fail("a model"))
    capsys.readouterr()
    command(monkeypatch, "evaluate", run.path, "--rescore")
    assert "gsm8k:gsm@metamath: 9 answers scored" in capsys.readouterr().out
    for folder in folders[:2]:
        lines = (folder / "scores.jsonl").read_text().splitlines()
        assert all(set(json.loads(line)["values"].values()) == {1} for line in lines)
        assert len(lines) == len(scores[folder].splitlines()) == 9
    assert (folders[2] / "scores.jsonl").read_text() == scores[folders[2]]


def test_help_lists_the_checkers(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        command(monkeypatch, "evaluate", "--help")
    printed = capsys.readouterr().out
    assert all(name in printed for name in CHECKERS)


def test_rows_of_a_folder_are_numbered_by_line(tmp_path):
    file = write_lines(tmp_path / "test.jsonl", sums(2))
    assert [row.where for row in rows_of(BENCHMARKS["gsm8k"], str(tmp_path)).rows] == [
        f"{file}:1",
        f"{file}:2",
    ]
