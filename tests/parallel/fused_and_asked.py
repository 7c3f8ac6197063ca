"""Fuses and generates on meshes of eight devices and on one, and prints how far they are apart."""

import json
import sys

import jax
import numpy as np

from lorafuse_jax.adapter import stack, to_delta
from lorafuse_jax.bank import make_bank
from lorafuse_jax.fusion import get_operator
from lorafuse_jax.generation import serve as serving
from lorafuse_jax.generation.request import Request
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.parallel.mesh import parse_mesh
from lorafuse_jax.parallel.rules import Rules
from lorafuse_jax.text_generation import make_engine
from lorafuse_jax.workflow.placement import Placement
from tests.parallel.given import divisible_model, place, placement_of
from tests.tiny import random_adapter

OPERATORS = ("seedlora", "ties", "tsv")
MODULES = r"layers/(mlp/down_proj|self_attn/q_proj)"
HELD: list[list[float]] = []
"""Each time tokens are generated: which share of all rows, and of key heads, a device holds."""


def watched(program):
    def go_on(*arguments):
        keys = arguments[-1].ring.keys
        shard = keys.sharding.shard_shape(keys.shape)
        HELD.append([shard[axis] / keys.shape[axis] for axis in (1, 2)])
        return program(*arguments)

    return go_on


def main() -> None:
    """Arguments: meshes as the command line takes them."""
    serving.go_on = watched(serving.go_on)
    model = divisible_model()
    members = [random_adapter(model.params, seed, targets=MODULES) for seed in range(8)]
    fused, asked = fuse(None, members, model), ask(placement_of(None), model, members[:3])
    for mesh in sys.argv[1:]:
        placement = placement_of(parse_mesh(mesh))
        there, answers = fuse(placement, members, model), ask(placement, model, members[:3])
        apart = {name: max(map(_relative, there[name], fused[name])) for name in OPERATORS}
        log_probs = max(np.abs(a[1] - b[1]).max() for a, b in zip(answers, asked, strict=True))
        same = [a[0] for a in answers] == [b[0] for b in asked]
        found = {"fused": apart, "same": same, "log_probs": float(log_probs), "held": HELD[-1]}
        print(json.dumps(found), flush=True)


def fuse(placement: Placement | None, members: list, model) -> dict[str, list[np.ndarray]]:
    """Deltas that every operator makes of the members, dealt out by the rules."""
    stacked = stack(members)
    if placement is not None:
        rules = Rules(placement.mesh, model.config.units)
        stacked = jax.device_put(stacked, rules.trained(stacked))
    deltas = lambda operator: lambda stacked: to_delta(get_operator(operator)(stacked))  # noqa: E731
    return {
        name: list(map(np.asarray, jax.tree.leaves(jax.jit(deltas(name))(stacked))))
        for name in OPERATORS
    }


def ask(placement: Placement, model, members: list) -> list[tuple]:
    """Tokens, and log-probabilities of a reference, of the base and the members in order."""
    engine, size = make_engine(model), model.config.vocab_size
    rng = np.random.default_rng(1)
    draw = lambda count: rng.integers(1, size, count).astype(np.int32)  # noqa: E731
    # Prompts of one length and all at once: few shapes, and so few programs to compile a mesh.
    queue = [Request(draw(6), 10, draw(3)) for _ in range(5)]
    bank = placement.everywhere(make_bank([{}, *members]))
    params = place(model, placement).params
    with placement.active():
        answers = list(serve(engine, params, bank, [queue] * (1 + len(members)), lanes=8))
    ordered = sorted(answers, key=lambda one: (one.member, one.request))
    return [(one.tokens.tolist(), one.log_probs) for one in ordered]


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


if __name__ == "__main__":
    main()
