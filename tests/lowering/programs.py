"""Every program that is run on an accelerator, by name, with the shapes of its arguments."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lorafuse_jax.adapter import compress, stack, to_delta
from lorafuse_jax.adapter_spectral import core_svd, leading_vectors, randomized_svd, tall_qr
from lorafuse_jax.bank import make_bank
from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.fusion.diagnostics import diagnose
from lorafuse_jax.fusion.operator import Operator
from lorafuse_jax.generation import serve as serving
from lorafuse_jax.generation.request import Request
from lorafuse_jax.lora_init import olora_factors, pissa_factors
from lorafuse_jax.models.config import Sliding
from lorafuse_jax.models.fused_attention import LEAST_LENGTH
from lorafuse_jax.models.hub import Model
from lorafuse_jax.models.quantized import quantize_params
from lorafuse_jax.text_generation import make_engine
from lorafuse_jax.training.objective import seed_totals
from lorafuse_jax.types import LoraPair
from lorafuse_jax.workflow.landscape_losses import PointLosses, constant
from lorafuse_jax.workflow.train_config import TrainConfig
from lorafuse_jax.workflow.trainer import Trainer, make_trainer
from tests.fusion.test_contract import extra_for, members_for
from tests.parallel.given import divisible_model, task
from tests.tiny import random_adapter, random_dense

SOME = r".*/(q|down)_proj"
"""Enough of the projections: what is done to one is done to all."""

WINDOWED = {"sliding": Sliding(window=8, layers=(True, False)), "attention_softcap": 20.0}

TRAINING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lora": ({"dropout": 0.1}, {}),
    "lora in parts": ({"micro_batches": 2, "seeds_per_pass": 1, "remat": "layers"}, {}),
    "lora of unequal seeds": ({"rank": (2, 4, 3), "alpha": (4.0, 8.0, 8.0)}, WINDOWED),
    "lora of the ends": (
        {"targets": (SOME, "embed_tokens", "lm_head"), "dropout": 0.1},
        {"head_dim": 64},
    ),
    "lora on int8": ({"quantization": "int8"}, {}),
    "lora on nf4": ({"quantization": "nf4", "remat": "nothing"}, {}),
    "lora+": ({"lora_plus": 16.0}, {"norm": "layer", "rope": None, "qkv_bias": True}),
    "dora": ({"method": "dora", "dropout": 0.1}, {"qk_norm": True, "sandwich_norms": True}),
    "dense": ({"method": "dense"}, {}),
    "full": ({"method": "full"}, {"tie_embeddings": False}),
}
"""Settings of the run, and what differs from a Llama."""


class Program(NamedTuple):
    """A jitted function, and what it is called with: arrays, shapes, static arguments."""

    fn: jax.stages.Wrapped
    args: tuple[Any, ...]


def model_in(dtype: Any, **changes: Any) -> Model:
    """A tiny model with weights of this type."""
    model = divisible_model(**changes)
    return replace(model, params=jax.tree.map(lambda x: x.astype(dtype), model.params))


def trainer_for(name: str, dtype: Any, folder: Any) -> Trainer:
    """A run of three seeds.

    Args:
        name: in ``TRAINING``.
        dtype: of the base.
        folder: may be written to.
    """
    settings, changes = TRAINING[name]
    model = replace(model_in(dtype, **changes), path=folder)
    (folder / "config.json").write_text("{}")
    if kind := settings.get("quantization"):
        of_kind = partial(quantize_params, quantization=kind)
        model = replace(model, params=jax.eval_shape(of_kind, model.params))
    method = settings.get("method", "lora")
    common: dict[str, Any] = {"model": "tiny", "data": "none", "seeds": (0, 1, 2), "examples": 24}
    common |= {} if method in ("dense", "full") else {"rank": 4}
    common |= {} if method == "full" or name == "lora" else {"targets": SOME}
    config = TrainConfig(**(common | settings))
    return make_trainer(config, model, task())


def train_step(trainer: Trainer) -> Program:
    """Of all seeds, on packed rows."""
    state = jax.eval_shape(trainer.fresh_state)
    batch = trainer.batches().batch(0)
    return Program(trainer.step_fn, (state, trainer.method.base, batch, trainer.member()))


def with_long_rows(program: Program) -> Program:
    """A train step for rows that fused attention is for."""
    state, params, batch, member = program.args
    rows = jax.ShapeDtypeStruct((*batch.tokens.shape[:-1], LEAST_LENGTH), jnp.int32)
    batch = batch._replace(tokens=rows, segments=rows, positions=rows)
    return Program(program.fn, (state, params, batch, member))


def heldout(trainer: Trainer) -> Program:
    """The held-out loss of all seeds."""
    state = jax.eval_shape(trainer.fresh_state)
    batch = jax.tree.map(lambda leaf: leaf[0, 0], trainer.batches().batch(0))
    member = trainer.member()._replace(dropout_key=None)
    totals = seed_totals(trainer.method.log_probs)
    return Program(totals, (state.adapter, trainer.method.base, batch, member))


def decoding(dtype: Any, *, ensemble: bool = False, **changes: Any) -> dict[str, Program]:
    """What serving calls, with the arguments it calls it with: no program is run, all give zeros.

    Prompts share a prefix, some have references; rows are sampled by nucleus, and of three members
    one is low-rank, one dense and one the base.
    """
    model = model_in(dtype, **changes)
    bank = make_bank([random_adapter(model.params), random_dense(model.params), {}])
    start = np.arange(1, 10)
    queue = [
        Request(np.append(start, 11), max_new_tokens=most, temperature=0.7, top_p=0.9)
        for most in (4, 4, 20)
    ]
    queue += [Request(start, reference=start[:3])]
    called: dict[str, Program] = {}
    with _recorded(called):
        engine = make_engine(model)
        list(serving.serve(engine, model.params, bank, [queue] * 3, lanes=2, ensemble=ensemble))
    return called


@contextmanager
def _recorded(called: dict[str, Program]) -> Iterator[None]:
    kept = {name: getattr(serving, name) for name in ENGINE_PROGRAMS}

    def recorder(name: str) -> Callable:
        def call(*args: Any) -> Any:
            called.setdefault(name, Program(kept[name], args))
            return jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), kept[name].eval_shape(*args))

        return call

    try:
        for name in kept:
            setattr(serving, name, recorder(name))
        yield
    finally:
        for name, fn in kept.items():
            setattr(serving, name, fn)


ENGINE_PROGRAMS = ("read_prefix", "read", "start", "go_on", "idle", "narrowed", "resized")


def scoring(dtype: Any) -> dict[str, Program]:
    """Losses of many mixtures, and of many adapters, at once."""
    model = model_in(dtype)
    stacked = stack([random_adapter(model.params, seed) for seed in range(3)])
    tokens = np.arange(1, 9, dtype=np.int32)
    examples = [Encoded.from_answer(str(n), tokens[: 3 + n], tokens[:3]) for n in range(3)]
    losses = PointLosses(model, stacked, examples, None)
    _, batch = losses._numbered[0]
    points = jax.tree.map(_twice, constant((0.2, 0.3, 0.5), stacked))
    adapters = jax.tree.map(_twice, random_adapter(model.params))
    return {
        "mixtures": Program(losses._mixed, (points, model.params, losses._joined, batch)),
        "adapters": Program(losses._adapted, (adapters, model.params, batch)),
    }


def _twice(leaf: jax.Array) -> jax.Array:
    return jnp.stack([leaf, leaf])


def fusion(op: Operator) -> Program:
    """An operator's result, and the gradient in the weights of the sum of its squares."""
    stacked = members_for(op, np.random.default_rng(0))
    weights = jnp.full(next(iter(stacked.values()))[0].shape[0], 0.4)

    def energy(weights, stacked, extra):
        fused = op(stacked, weights=weights, **extra)
        squares = [jnp.sum(update[0] ** 2) for update in to_delta(fused).values()]
        return sum(squares, jnp.float32(0)), fused

    fn = jax.jit(jax.value_and_grad(energy, has_aux=True))
    return Program(fn, (weights, stacked, extra_for(op, stacked)))


def _of(fn: Callable, *shapes: tuple[int, ...]) -> Program:
    return Program(jax.jit(fn), tuple(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes))


def _pair(*lead: int) -> LoraPair:
    return LoraPair(jnp.zeros((*lead, 40, 4)), jnp.zeros((*lead, 4, 24)))


SPECTRAL = {
    "QR of a tall matrix": _of(tall_qr, (60, 3)),
    "QR under vmap": _of(jax.vmap(tall_qr), (2, 60, 3)),
    "leading vectors": _of(jax.vmap(partial(leading_vectors, count=3)), (2, 9, 6)),
    "randomized SVD": _of(partial(randomized_svd, rank=4), (300, 290)),
    "SVD of an update": Program(jax.jit(jax.vmap(core_svd)), (_pair(2),)),
    "compressed update": Program(jax.jit(partial(compress, rank=2)), ({"": _pair(2)},)),
    "PiSSA": _of(partial(pissa_factors, rank=4, scale=2.0), (24, 40)),
    "OLoRA": _of(partial(olora_factors, rank=4, scale=2.0), (24, 40)),
    "diagnostics": Program(jax.jit(diagnose), (_pair(3, 2),)),
}
