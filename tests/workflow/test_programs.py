"""Programs are run where the command says so, and refused before anything is asked."""

import json
from dataclasses import replace

import pytest

from lorafuse_jax.data.files import Row
from lorafuse_jax.evaluation.archive import Archive
from lorafuse_jax.evaluation.records import Answer, append
from lorafuse_jax.evaluation.sandbox import isolation
from lorafuse_jax.evaluation.sandbox.warden import Refused
from lorafuse_jax.evaluation.tasks import BENCHMARKS
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.evaluate import evaluate, rescore
from lorafuse_jax.workflow.programs import with_programs

ADD = {
    "task_id": "T/0",
    "prompt": 'def add(a, b):\n    """Add."""\n',
    "entry_point": "add",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
}
RIGHT, WRONG = "    return a + b\n", "    return a\n"


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A run in which two models have answered one question, two samples each."""
    monkeypatch.setenv("LORAFUSE_CACHE", str(tmp_path / "cache"))
    made = Archive(tmp_path / "evaluations" / "humaneval@completion")
    questions = BENCHMARKS["humaneval"].questions([Row(ADD, "file:1", 1)], "completion")
    about = {"label": "humaneval@completion", "benchmark": "humaneval", "version": 1}
    made.open_for(about | {"likelihood": False}, questions)
    for model, kind, texts in [("base", "base", [WRONG] * 2), ("seed-1", "seed", [WRONG, RIGHT])]:
        said = {"id": "T/0", "model": model, "kind": kind, "weights": "w", "texts": texts}
        numbers = {"generated": [3, 3], "log_probs": [], "tokens": [], "greedy": []}
        append(made.answers_path, [Answer(**said, **numbers)])
    return made


@pytest.fixture
def refusing(monkeypatch):
    def refuse(program, limits, kind):
        raise Refused(f"no {kind} here")

    isolation.find_isolation.cache_clear()
    monkeypatch.setattr(isolation, "ask_warden", refuse)
    yield
    isolation.find_isolation.cache_clear()


def test_answers_are_scored_by_running_them_and_verdicts_kept(archive, tmp_path):
    benchmark = with_programs(BENCHMARKS["humaneval"], unsafe=False)
    assert archive.score(benchmark) == 2
    scores = archive.scores()
    assert scores.models == ["base", "seed-1"]
    assert scores.primary.ravel().tolist() == [0, 0.5]
    assert list(scores.values) == ["pass@1"]
    assert len((tmp_path / "cache/verdicts/verdicts.jsonl").read_text().splitlines()) == 2


def test_answers_can_be_scored_anew(archive, tmp_path):
    rescore(RunFolder(tmp_path))
    assert archive.scores().primary.ravel().tolist() == [0, 0.5]


def test_scores_are_kept_where_programs_cannot_be_isolated_and_unsafe_runs_them(
    archive, tmp_path, refusing
):
    rescored = archive.scores_path
    with pytest.raises(UserError, match="cannot be isolated here"):
        rescore(RunFolder(tmp_path))
    assert not rescored.exists()
    rescore(RunFolder(tmp_path), unsafe=True)
    with pytest.raises(UserError, match="cannot be isolated here"):
        rescore(RunFolder(tmp_path))
    assert archive.scores().primary.ravel().tolist() == [0, 0.5]


def test_nothing_is_asked_where_programs_cannot_be_isolated(tmp_path, refusing):
    # Neither model nor adapters are there: that would be the next to be said.
    (tmp_path / "config.json").write_text(json.dumps({"data": "x", "template": "qa"}))
    (tmp_path / "test.jsonl").write_text(json.dumps(ADD) + "\n")
    with pytest.raises(UserError, match="cannot be isolated here"):
        evaluate(RunFolder(tmp_path), [f"humaneval:{tmp_path}"])


def test_benchmarks_without_programs_need_no_isolation(refusing):
    other = replace(BENCHMARKS["humaneval"], runs_programs=False)
    assert with_programs(other, unsafe=False) is other
