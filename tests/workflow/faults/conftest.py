"""Tiny inputs, a run that nothing happened to, and a way to have something happen."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from lorafuse_jax.data.loader import Loader
from lorafuse_jax.training import peak
from lorafuse_jax.workflow import trainer
from lorafuse_jax.workflow.train import train
from tests.tiny import write_sums, write_tiny_model
from tests.workflow.faults.short_runs import config

CACHE = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return write_tiny_model(folder / "model"), write_sums(folder / "sums")


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
