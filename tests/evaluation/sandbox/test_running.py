"""Many programs: in order, at once, each once; kept on disk; and refused where nothing isolates."""

import json
import os
import subprocess

import pytest

from lorafuse_jax.evaluation.sandbox import (
    Limits,
    Program,
    Verdict,
    isolation,
    run_programs,
    running,
)
from lorafuse_jax.evaluation.sandbox.verdicts import NAME
from lorafuse_jax.evaluation.sandbox.warden import Refused
from lorafuse_jax.types import UserError

RIGHT = Program(source="def f(x): return x + 1", test="assert f(1) == 2")
WRONG = Program(source="def f(x): return x - 1", test="assert f(1) == 2")
ENDLESS = Program(source="while True: pass", test="")


@pytest.fixture
def asked(monkeypatch) -> list[Program]:
    """Every program that is really run."""
    programs, ask = [], running.ask_warden

    def noting(program: Program, limits: Limits, kind: str) -> Verdict:
        programs.append(program)
        return ask(program, limits, kind)

    monkeypatch.setattr(running, "ask_warden", noting)
    return programs


def test_verdicts_come_in_the_order_of_the_programs_and_equal_ones_run_once(asked):
    slow = Program(source=f"import time\ntime.sleep(0.3)\n{RIGHT.source}", test=RIGHT.test)
    programs = [slow, WRONG, RIGHT, WRONG, RIGHT]
    found = [verdict.passed for verdict in run_programs(programs, workers=3)]
    assert found == [True, False, True, False, True]
    assert len(asked) == 3


def test_verdicts_are_kept_but_time_outs(asked, tmp_path):
    limits = Limits(seconds=0.5)
    first = list(run_programs([RIGHT, WRONG, ENDLESS], limits, cache=tmp_path / "new"))
    assert [verdict.outcome for verdict in first] == ["passed", "failed", "timed out"]
    asked.clear()
    again = list(run_programs([ENDLESS, WRONG, RIGHT], limits, cache=tmp_path / "new"))
    assert again[1:] == [first[1], first[0]]
    assert asked == [ENDLESS]
    other = Limits(seconds=0.5, memory_bytes=1 << 30)
    list(run_programs([RIGHT], other, cache=tmp_path / "new"))
    assert asked == [ENDLESS, RIGHT]


def test_damaged_lines_of_the_cache_decide_nothing(asked, tmp_path):
    list(run_programs([RIGHT], cache=tmp_path))
    kept = (tmp_path / NAME).read_text()
    (tmp_path / NAME).write_text('{"key": 1}\nno json\n[3]\n' + kept + kept[:40])
    asked.clear()
    assert [v.passed for v in run_programs([RIGHT, WRONG], cache=tmp_path)] == [True, False]
    assert asked == [WRONG]
    assert json.loads((tmp_path / NAME).read_text().splitlines()[-1])["outcome"] == "failed"
    asked.clear()
    list(run_programs([WRONG], cache=tmp_path))
    assert asked == []


@pytest.fixture
def refusing(monkeypatch):
    """A system on which no kind of isolation works."""

    def refuse(program: Program, limits: Limits, kind: str) -> Verdict:
        raise Refused(f"no {kind} here")

    monkeypatch.setattr(isolation, "ask_warden", refuse)
    isolation.find_isolation.cache_clear()
    yield
    isolation.find_isolation.cache_clear()


def test_nothing_runs_where_nothing_isolates(refusing, asked):
    with pytest.raises(UserError, match="no landlock here") as refused:
        run_programs([RIGHT])
    assert "--unsafe" in str(refused.value)
    assert asked == []


def test_only_linux_isolates(monkeypatch, asked):
    isolation.find_isolation.cache_clear()
    monkeypatch.setattr(isolation.sys, "platform", "darwin")
    with pytest.raises(UserError, match="this is darwin"):
        run_programs([RIGHT])
    isolation.find_isolation.cache_clear()


def test_unsafe_runs_programs_where_nothing_isolates_with_limits_and_a_folder_alone(refusing):
    own = Program(
        source="import os, subprocess, sys\n"
        "def f():\n"
        "    done = subprocess.run([sys.executable, '-c', 'print(7)'], capture_output=True)\n"
        "    return os.listdir('.'), done.stdout, 'PATH' in os.environ",
        test="assert f() == ([], b'7\\n', False)",
    )
    verdicts = list(run_programs([own, WRONG, ENDLESS], Limits(seconds=3.0), unsafe=True))
    assert [verdict.outcome for verdict in verdicts] == ["passed", "failed", "timed out"], verdicts


def test_unsafe_ends_the_whole_process_group(tmp_path):
    source = (
        "import os, time\n"
        "pid = os.fork()\n"
        f"if pid == 0:\n    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        f"while not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(0.01)\n"
    )
    assert next(run_programs([Program(source=source, test="")], unsafe=True)).passed
    number = int((tmp_path / "pid").read_text())
    gone = subprocess.run(
        ["sh", "-c", f"kill -0 {number} && ! grep -q '^State:.Z' /proc/{number}/status"]
    )
    assert gone.returncode != 0


def test_asking_no_programs_is_no_error():
    assert list(run_programs([])) == []
    assert os.cpu_count()
