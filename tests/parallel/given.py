"""A tiny model whose axes a mesh of eight can divide, and a run on it; for child processes."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.models import families
from lorafuse_jax.models.hub import Model
from lorafuse_jax.parallel.mesh import MeshShape, make_mesh
from lorafuse_jax.workflow.inputs import EncodedTask
from lorafuse_jax.workflow.placement import ONE_DEVICE, Placement
from lorafuse_jax.workflow.train_config import TrainConfig
from lorafuse_jax.workflow.trainer import Trainer, make_trainer
from tests.tiny import tiny_config, tiny_params

DEVICES = 8
KV_HEADS = 4


def run_on_devices(module: str, *arguments: str, devices: int = DEVICES) -> str:
    """What a module prints that is run on so many CPU devices."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


def divisible_model(**changes) -> Model:
    """Eight heads, four key/value heads, and sizes that are multiples of eight."""
    sizes = {
        "vocab_size": 128,
        "model_dim": 32,
        "num_heads": 8,
        "num_kv_heads": KV_HEADS,
        "ffn_dim": 48,
        "context_length": 32,
    }
    config = tiny_config(**(sizes | changes))
    family = families.FAMILIES["llama"]
    folder = Path(tempfile.mkdtemp())
    (folder / "config.json").write_text("{}")  # full fine-tuning looks for one to take over
    return Model(config, tiny_params(config), None, folder, "tiny", (0,), family)


def task() -> EncodedTask:
    """Sixteen examples to train on, and five held out; of one length, so a step has one shape."""
    rng = np.random.default_rng(0)

    def draw(number: int) -> Encoded:
        prompt, answer = np.split(rng.integers(1, 97, 12), [rng.integers(5, 10)])
        return Encoded.from_answer(str(number), prompt.astype(np.int32), answer.astype(np.int32))

    examples = [draw(number) for number in range(21)]
    return EncodedTask(Path("none"), "", "qa", examples[:16], examples[16:], 0)


def placement_of(shape: MeshShape | None) -> Placement:
    """On all devices, or on one."""
    return ONE_DEVICE if shape is None else Placement(make_mesh(shape), shape.fsdp)


def place(model: Model, placement: Placement, quantized: bool = False) -> Model:
    """The model with its base laid out."""
    shardings = placement.base_shardings(model.config, quantized)
    named = {
        "/".join(str(key.key) for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(model.params)
    }
    placed = {path: jax.device_put(leaf, shardings.get(path)) for path, leaf in named.items()}
    structure = jax.tree.structure(model.params)
    return Model(
        model.config,
        jax.tree.unflatten(structure, placed.values()),
        model.tokenizer,
        model.path,
        model.fingerprint,
        model.stop_tokens,
        model.family,
    )


def trainer_on(shape: MeshShape | None, **settings) -> Trainer:
    """A run of eight seeds, eight examples a step."""
    # Adam takes the sign of what is only rounding: small steps keep that from growing.
    common = {"rank": 4, "seeds": tuple(range(8)), "examples": 24, "learning_rate": 1e-3}
    config = TrainConfig(model="tiny", data="none", **(common | settings))
    placement = placement_of(shape)
    return make_trainer(config, place(divisible_model(), placement), task(), placement)


class Compiled:
    """A trainer's step, compiled once a shape of its batch; keeps the text of the programs."""

    def __init__(self, trainer: Trainer) -> None:
        self._step, self._programs = trainer.step_fn, {}

    def __call__(self, *arguments):
        shapes = str(jax.tree.map(jax.numpy.shape, arguments[2]))
        if shapes not in self._programs:
            self._programs[shapes] = self._step.lower(*arguments).compile()
        return self._programs[shapes](*arguments)

    def text(self) -> str:
        """Of the first program, as XLA has made it."""
        return next(iter(self._programs.values())).as_text()


def train_steps(trainer: Trainer, steps: int = 3) -> tuple:
    """Losses of each step [T, S], held-out losses [S], the adapters, and the compiled step."""
    step_fn = Compiled(trainer)
    with trainer.placement.active():
        state, losses = trainer.fresh_state(), []
        for step in range(steps):
            batch = trainer.batches().batch(step)
            state, loss = step_fn(state, trainer.method.base, batch, trainer.member())
            losses.append(np.asarray(loss))
        heldout = trainer.heldout(state, trainer.method.base)
    return np.array(losses), heldout, jax.device_get(state.adapter), step_fn
