"""Several processes train as one: real ones, on the loopback; one that dies, one that disagrees."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from lorafuse_jax.parallel.hosts import Hosts, parse_hosts
from lorafuse_jax.types import UserError
from tests.parallel.host_jobs import STEPS

LOST = 75


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("hosts")
    result = subprocess.run(
        [sys.executable, "-m", "tests.parallel.host_jobs", str(folder)],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout) | {"folder": folder}


def test_four_processes_leave_what_one_does(found):
    assert found["jobs"]["one"]["status"] == [0]
    assert found["jobs"]["four"]["status"] == [0] * 4
    assert found["files"]["four"] == found["files"]["one"]


def test_metrics_and_costs_are_written_once_and_only_the_first_speaks(found):
    lines = found["files"]["four"]["metrics.jsonl"]
    steps = [line for line in json.loads(lines) if line.get("seed") == 1]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    costs = (found["folder"] / "four" / "cost.jsonl").read_text().splitlines()
    assert [json.loads(line)["verb"] for line in costs] == ["train"]
    first, *others = found["jobs"]["four"]["said"]
    assert f"train {STEPS}/{STEPS}" in first and "wrote 2 adapters" in first
    assert all("train" not in one and "wrote" not in one for one in others)


def test_each_process_reads_its_part_of_the_base_and_packs_its_part_of_the_data(found):
    (whole,) = found["jobs"]["one"]["reads"]
    parts = found["jobs"]["four"]["reads"]
    for part in parts:
        # The axis data divides kernels and examples, seed the examples; norms are everywhere.
        assert 0.5 <= part["weights"] / whole["weights"] < 0.55
        assert part["examples"] == whole["examples"] / 4


@pytest.mark.parametrize("job", ["killed", "killed first"])
def test_a_killed_process_ends_the_job_everywhere_with_an_error_that_says_so(found, job):
    victim = 0 if job == "killed first" else 1
    ended = found["jobs"][job]
    assert ended["status"][victim] == -9
    survivor = 1 - victim
    # Where the first is gone, jax may end the others before they have said their own.
    assert ended["status"][survivor] in ((LOST,) if victim else (LOST, -6))
    said = ended["said"][survivor]
    assert "another host of this job is gone" in said or "another task died" in said
    assert "Traceback" not in said


def test_a_job_that_goes_on_leaves_the_same_bits(found):
    assert found["jobs"]["resumed"]["status"] == [0, 0]
    assert "going on from the checkpoint of step" in found["jobs"]["resumed"]["said"][0]
    assert found["files"]["killed"] == found["files"]["one"]


def test_a_signal_to_one_process_stops_all_after_the_same_step(found):
    stopped = found["jobs"]["stopped"]
    assert stopped["status"] == [143, 143]
    assert "stopped by SIGTERM: step" in stopped["said"][0]
    assert found["jobs"]["stop resumed"]["status"] == [0]  # by one process, on the same mesh
    assert found["files"]["stopped"] == found["files"]["one"]


def test_a_checkpoint_goes_on_elsewhere_on_another_mesh(found):
    assert found["jobs"]["elsewhere"]["status"] == [0]
    assert "going on from the checkpoint of step" in found["jobs"]["elsewhere"]["said"][0]
    losses = [
        [
            line["train_loss"]
            for line in json.loads(found["files"][run]["metrics.jsonl"])
            if "seed" in line
        ]
        for run in ("elsewhere", "one")
    ]
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-4)


@pytest.mark.parametrize(
    "job, said",
    [
        (
            "other seeds",
            ["processes 0 and 1 of 2 do not do the same", "seeds: [1, 2] on 0, [1, 3] on 1"],
        ),
        ("other data", ["processes 0 and 1 of 2 do not do the same", "data_fingerprint"]),
        ("no data", ["process 1 of 2", "sums"]),
        ("no mesh", ["takes 4 devices, and there are 2"]),
    ],
)
def test_what_is_wrong_on_one_process_is_said_on_all(found, job, said):
    ended = found["jobs"][job]
    assert ended["status"] == [2, 2]
    for one in ended["said"]:
        assert "error: " in one and "Traceback" not in one
        assert all(words in one for words in said), one
    assert not (found["folder"] / "none").exists()


def test_hosts_are_written_in_one_word():
    assert parse_hosts("auto") == Hosts()
    assert parse_hosts("10.0.0.1:1234,3/4") == Hosts("10.0.0.1:1234", 3, 4)
    for wrong in ("10.0.0.1:1234", "10.0.0.1,0/2", "10.0.0.1:1,2/2", "0/2"):
        with pytest.raises(UserError, match="is not understood"):
            parse_hosts(wrong)
