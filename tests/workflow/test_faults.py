"""What may go wrong while training: kills, signals, NaN, full and damaged disks, two processes."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from lorafuse_jax import cli
from lorafuse_jax.data.loader import Loader
from lorafuse_jax.formats import load_adapter, read_provenance
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.training import peak
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow import train as train_module
from lorafuse_jax.workflow import trainer
from lorafuse_jax.workflow.fuse import FuseRequest, fuse_run
from lorafuse_jax.workflow.members import best_seed, members_of_run
from lorafuse_jax.workflow.run_lock import locked
from lorafuse_jax.workflow.stopping import Stopped
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.tiny import write_sums, write_tiny_model
from tests.workflow.killed_runs import files_of

STEPS = 6
CACHE = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)
ADAPTERS = [
    f"{folder}-{seed}/adapter_model.safetensors"
    for folder in ("adapters/seed", "fused/average-seed")
    for seed in (1, 2)
]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return write_tiny_model(folder / "model"), write_sums(folder / "sums")


def config(inputs, **changes):
    model, data = inputs
    settings = {"model": str(model), "data": str(data), "seeds": (1, 2, 3), "rank": 2}
    settings |= {"dropout": 0.1, "examples": 2 * STEPS, "examples_per_step": 2}
    return TrainConfig(**(settings | {"heldout_examples": 4, "fuse_every": 2} | changes))


@pytest.fixture(scope="module", autouse=True)
def checkpoint_after_every_step():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(peak, "MEASURE_SECONDS", 0.01)
        yield


@pytest.fixture(scope="module", autouse=True)
def programs_compiled_once(tmp_path_factory):
    """Nearly all runs of this file are the same program."""
    before = {name: getattr(jax.config, name) for name in CACHE}
    values = (str(tmp_path_factory.mktemp("cache")), 0, -1)
    for name, value in zip(CACHE, values, strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    return train(config(inputs), tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def at_step(monkeypatch):
    """Have something happen before the data of a step is made."""
    real = Loader.batch

    def install(when, action):
        def batch(self, step):
            made = real(self, step)
            return (action(made) or made) if step == when else made

        monkeypatch.setattr(Loader, "batch", batch)

    yield install
    monkeypatch.setattr(Loader, "batch", real)


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


def poisoned(*members):
    def poison(batch):
        weight = np.array(batch.loss_weight)
        weight[list(members)] = np.inf
        return batch._replace(loss_weight=weight)

    return poison


@pytest.fixture(scope="module")
def frozen(inputs, tmp_path_factory):
    """A run whose seed 2 has no finite loss in step 4."""
    with pytest.MonkeyPatch.context() as patch:
        real = Loader.batch
        spoil = poisoned(1)
        patch.setattr(
            Loader, "batch", lambda self, n: spoil(real(self, n)) if n == 3 else real(self, n)
        )
        return train(config(inputs), tmp_path_factory.mktemp("runs") / "frozen")


def test_seed_that_is_not_finite_is_frozen_and_the_others_do_not_notice(frozen, whole):
    assert frozen.trained_seeds() == [1, 3]
    for seed in (1, 3):
        healthy = load_adapter(whole.adapter_path(seed))
        jax.tree.map(
            np.testing.assert_array_equal, load_adapter(frozen.adapter_path(seed)), healthy
        )
    assert not frozen.adapter_path(2).exists()
    assert read_provenance(frozen.frozen_path(2))["frozen_at"] == 4
    kept = load_adapter(frozen.frozen_path(2))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept))


def test_frozen_seed_is_in_the_metrics_once(frozen):
    lines = [line for line in frozen.metrics() if line.get("seed") == 2]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1] == {"step": 4, "seed": 2, "frozen_at": 4}
    assert sum("fused" in line for line in frozen.metrics()) == STEPS / 2


def test_frozen_seed_is_said_once_while_training_and_at_the_end(inputs, tmp_path, at_step, capsys):
    at_step(3, poisoned(1))
    train(config(inputs), tmp_path / "run")
    said = capsys.readouterr().out
    assert said.count("seed 2 is frozen as it was before step 4") == 1
    assert said.count("seed 2 was frozen at step 4") == 1


def test_fusion_and_choice_leave_a_frozen_seed_out_and_say_so(frozen, tmp_path, capsys):
    assert len(members_of_run(frozen).names) == 2
    assert "seed 2 is left out" in capsys.readouterr().out
    fuse_run(frozen, FuseRequest(operator="mean"), tmp_path / "mean")
    names = [member["name"] for member in read_provenance(tmp_path / "mean")["members"]]
    assert names == ["seed-1", "seed-3"]
    assert best_seed(frozen) in (1, 3)


def test_fused_loss_leaves_a_frozen_seed_out(inputs, frozen, whole, tmp_path):
    without = train(config(inputs, seeds=(1, 3)), tmp_path / "without")
    mine, healthy, others = (
        {line["step"]: line["heldout_loss"] for line in run.metrics() if "fused" in line}
        for run in (frozen, whole, without)
    )
    assert mine[2] == healthy[2] != pytest.approx(others[2], rel=1e-5)
    assert mine[4] == pytest.approx(others[4], rel=1e-5)
    assert mine[6] == pytest.approx(others[6], rel=1e-5)


def test_frozen_seed_stays_frozen_over_a_resume(inputs, frozen, tmp_path, at_step, monkeypatch):
    out = tmp_path / "run"
    real = Loader.batch

    def batch(self, step):
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return poisoned(1)(real(self, step)) if step == 3 else real(self, step)

    monkeypatch.setattr(Loader, "batch", batch)
    with pytest.raises(Stopped):
        train(config(inputs), out)
    monkeypatch.setattr(Loader, "batch", real)
    train(config(inputs), out)
    assert files_of(out) == files_of(frozen.path)


def test_run_without_a_finite_seed_stops_with_one_error(inputs, tmp_path, at_step):
    at_step(1, poisoned(0, 1, 2))
    with pytest.raises(UserError, match=r"no seed is left.*seed 1 at step 2, seed 2 at step 2"):
        train(config(inputs), tmp_path / "run")
    assert not (tmp_path / "run" / "adapters").exists()


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
