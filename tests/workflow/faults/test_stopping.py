"""Kills, signals, full and damaged disks, two processes: what a run goes on from, or says."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lorafuse_jax import cli
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow import train as train_module
from lorafuse_jax.workflow.run_lock import locked
from lorafuse_jax.workflow.stopping import Stopped
from lorafuse_jax.workflow.train import train
from tests.workflow.faults.short_runs import STEPS, config
from tests.workflow.killed_runs import files_of

ADAPTERS = [
    f"{folder}-{seed}/adapter_model.safetensors"
    for folder in ("adapters/seed", "fused/average-seed")
    for seed in (1, 2)
]
ROOT = Path(__file__).parent.parent.parent.parent


def test_twenty_kills_at_random_moments_change_nothing(tmp_path):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "USE_TORCH": "0",
    }
    program = [sys.executable, "-m", "tests.workflow.killed_runs", str(tmp_path), "20", "0"]
    done = subprocess.run(
        program, capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["killed_after"]) == 20
    assert found["runs"] >= 2 and {"metrics.jsonl", *ADAPTERS} <= set(found["compared"])
    assert found["different"] == [], found


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_the_step_and_the_repeat_goes_on(
    inputs, whole, tmp_path, at_step, monkeypatch, capfd, number, status
):
    out = tmp_path / "run"
    settings = config(inputs)
    words = ["lorafuse", "train", "--out", str(out)]
    for name, value in vars(settings).items():
        if value not in (None, ()):
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    words.remove("--rslora"), words.remove("False")
    monkeypatch.setattr(sys, "argv", words)
    at_step(3, lambda _: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == status
    assert f"step 3 of {STEPS} is saved; the same command goes on" in capfd.readouterr().err
    assert signal.getsignal(number) == before
    assert not (out / "adapters").exists()
    at_step(-1, None)
    cli.main()
    assert "going on from the checkpoint of step 3" in capfd.readouterr().out
    assert files_of(out) == files_of(whole.path)


def test_signal_in_the_last_step_lets_the_run_finish_and_is_not_forgotten(
    inputs, whole, tmp_path, at_step
):
    out = tmp_path / "run"
    at_step(STEPS - 1, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    # The data of the last step is made during the step before, or when the run goes on.
    for where in (f"step {STEPS - 1} of {STEPS} is saved", "the training itself is finished"):
        with pytest.raises(Stopped, match=where):
            train(config(inputs), out)
    assert files_of(out) == files_of(whole.path)


def stopped_at(inputs, out, at_step, step):
    at_step(step, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        train(config(inputs), out)
    at_step(-1, None)


def test_damaged_checkpoint_is_skipped_and_metrics_are_cut_back(
    inputs, whole, tmp_path, at_step, capsys
):
    out = tmp_path / "run"
    stopped_at(inputs, out, at_step, 4)
    assert len(RunFolder(out).metrics()) == 4 * 3 + 2
    victim = max((out / "checkpoints" / "4").rglob("*"), key=lambda file: file.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "se')
    train(config(inputs), out)
    said = capsys.readouterr().out
    assert "the checkpoint of step 4 is damaged" in said and "going back to step 3" in said
    assert files_of(out) == files_of(whole.path)


def test_metrics_that_were_changed_are_refused(inputs, tmp_path, at_step):
    out = tmp_path / "run"
    stopped_at(inputs, out, at_step, 2)
    metrics = out / "metrics.jsonl"
    changed = re.sub(r'"train_loss": \d', '"train_loss": 0', metrics.read_text(), count=1)
    metrics.write_text(changed)
    with pytest.raises(UserError, match="is not what it was when the checkpoint was written"):
        train(config(inputs), out)
    assert metrics.read_text() == changed


def test_another_version_does_not_go_on_from_a_checkpoint(inputs, tmp_path, at_step, monkeypatch):
    out = tmp_path / "run"
    stopped_at(inputs, out, at_step, 2)
    real = train_module.versions
    monkeypatch.setattr(train_module, "versions", lambda: real() | {"jax": "99.0"})
    with pytest.raises(UserError, match=r"jax: .* there, 99.0 now"):
        train(config(inputs), out)


def test_second_process_on_a_run_is_refused_and_a_stale_lock_is_not(inputs, whole, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    hold = (
        "import sys; from pathlib import Path; from lorafuse_jax.workflow.run_lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"USE_TORCH": "0"},
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=rf"another process is at work.*process {holder.pid}"):
            train(config(inputs), out)
        with pytest.raises(UserError, match="another process"), locked(out):
            pass
        holder.kill()
    assert (out / ".lock").exists()
    train(config(inputs), out)
    assert files_of(out) == files_of(whole.path)


def test_start_that_was_killed_before_its_configuration_was_whole_is_repeated(inputs, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / ".config.json.123").write_text('{"model": ')
    assert train(config(inputs, examples=2), out).trained_seeds() == [1, 2, 3]


def test_full_disk_is_said_and_with_more_room_the_run_goes_on(inputs, whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(*words):
        command = ["mount", "-t", "tmpfs", *words, "tmpfs", str(disk)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    mounted = mount("-o", "size=300k")
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        with pytest.raises(UserError, match="no space left on the disk"):
            train(config(inputs), disk / "run")
        assert not (disk / "run" / "adapters").exists()
        assert mount("-o", "remount,size=9m").returncode == 0
        train(config(inputs), disk / "run")
        assert files_of(disk / "run") == files_of(whole.path)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
