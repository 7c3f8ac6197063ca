"""A seed whose loss is not finite is left as it was, and the others go on."""

import os
import signal

import jax
import numpy as np
import pytest

from lorafuse_jax.data.loader import Loader
from lorafuse_jax.formats import load_adapter, read_provenance
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.fuse import FuseRequest, fuse_run
from lorafuse_jax.workflow.members import best_seed, members_of_run
from lorafuse_jax.workflow.stopping import Stopped
from lorafuse_jax.workflow.train import train
from tests.workflow.faults.short_runs import STEPS, config
from tests.workflow.killed_runs import files_of


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
