"""A train step and a decoding step compile for a TPU, where its compiler is installed."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",  # there is no cloud machine to ask what it is
    # Otherwise a lock file allows one process at a time, as is right for a TPU that is there.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@pytest.mark.skipif(find_spec("libtpu") is None, reason="libtpu is not installed")
def test_train_and_decoding_steps_compile_for_a_tpu():
    result = subprocess.run(
        [sys.executable, "-m", "tests.lowering.compile_for_tpu"],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found.keys() == {"train step", "decoding"}
    assert all(about["flops"] > 0 for about in found.values())
    assert found["train step"]["kernels"] >= 3  # forward, and for keys and queries backward
