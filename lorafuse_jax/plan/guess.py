"""What a way to divide the work takes, by arithmetic alone: to choose what is worth compiling.

Weights, adapters and optimiser states are exact; what is made meanwhile is a rough sum of the
largest parts, whose factors are those of compiled programs of LLaMA-like models.
"""

import math
from dataclasses import dataclass

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.decoder import Remat
from lorafuse_jax.models.head import CHUNK
from lorafuse_jax.parallel.mesh import MeshShape

SCORE_COPIES = 2.5
"""Float32 arrays of attention scores that exist at once in a layer's backward pass."""

WIDE_COPIES = 5
"""Arrays as wide as the feed-forward layer that do."""

SCORE_TRAFFIC, STREAM_TRAFFIC, WIDE_TRAFFIC = 70, 120, 70
"""Bytes read and written in a step for each score, and for each entry of a token's stream and of
its feed-forward layer, in each layer."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A way to divide the work.

    Attributes:
        mesh: among devices.
        remat: what is stored.
        seeds_per_pass: seeds at once; the others after them.
        micro_batches: parts of a seed's examples, one after the other.
    """

    mesh: MeshShape
    remat: Remat
    seeds_per_pass: int
    micro_batches: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be done in a step.

    Attributes:
        config: of the model.
        seeds: S.
        examples: of each seed.
        length: of an example, in tokens.
        flops: that all devices execute together, without what a policy adds.
        recomputed: what each policy adds.
        item: bytes of an activation's entry.
    """

    config: DecoderConfig
    seeds: int
    examples: int
    length: int
    flops: float
    recomputed: dict[Remat, float]
    item: int


@dataclass(frozen=True)
class Held:
    """Bytes that one device holds from step to step, exactly.

    Attributes:
        weights: of the base.
        layer: of one layer of it, as it is used: no longer divided by FSDP.
        adapters: of all seeds that it has.
        optimizer: the same.
    """

    weights: int
    layer: int
    adapters: int
    optimizer: int


@dataclass(frozen=True)
class Guess:
    """Of one device: bytes at the peak, and what a step takes of arithmetic, memory and links."""

    held: Held
    temporary: float
    flops: float
    moved: float
    sent: float

    @property
    def peak(self) -> float:
        """Bytes."""
        return self.held.weights + self.held.adapters + self.held.optimizer + self.temporary


def guess(work: Work, cut: Cut, held: Held) -> Guess:
    """What each device takes."""
    config, mesh, item = work.config, cut.mesh, work.item
    seeds = max(1, cut.seeds_per_pass // mesh.seed)
    rows = seeds * work.examples // cut.micro_batches // mesh.data
    tokens, layers = rows * work.length, config.num_layers
    heads = config.num_heads / mesh.model
    scores = tokens * work.length * heads
    wide = tokens * config.ffn_dim / mesh.model
    own_seeds = work.seeds // mesh.seed
    passes = math.ceil(own_seeds / seeds) * cut.micro_batches

    kept = layers * _kept(config, cut, tokens, scores, wide, item)
    gradients = held.adapters * seeds / own_seeds * (1 if cut.micro_batches == 1 else 2)
    passing = held.adapters + held.optimizer if seeds < own_seeds else 0
    logits = 2 * 4 * min(CHUNK, tokens) * seeds * config.vocab_size / mesh.model
    inside = (
        SCORE_COPIES * 4 * scores + WIDE_COPIES * item * wide + 6 * item * tokens * config.model_dim
    )
    gathered = 2 * held.layer if mesh.fsdp and mesh.data > 1 else 0
    temporary = kept + gradients + passing + max(logits, inside) + gathered

    devices = mesh.devices
    flops = (work.flops + work.recomputed[cut.remat]) / devices
    reads = (3 if cut.remat == "layers" else 2) * layers * held.layer
    each = SCORE_TRAFFIC * scores + item / 2 * (
        STREAM_TRAFFIC * tokens * config.model_dim + WIDE_TRAFFIC * wide
    )
    moved = passes * (reads + layers * each) + 3 * (held.adapters + held.optimizer)
    sent = _sent(work, cut, held, passes * tokens, passes)
    return Guess(held, float(temporary), flops, float(moved), sent)


def _kept(
    config: DecoderConfig, cut: Cut, tokens: int, scores: float, wide: float, item: int
) -> float:
    """Bytes stored for the backward pass, of one layer."""
    stream = float(item * tokens * config.model_dim)
    if cut.remat == "layers":
        return stream
    attention = item * tokens * config.head_dim * 2 * (config.num_heads + config.num_kv_heads)
    between = 2 * stream + attention / cut.mesh.model + 2 * item * wide
    if cut.remat == "projections":
        return between
    return between + (4 + item) * scores + 4 * stream + 2 * item * wide


def _sent(work: Work, cut: Cut, held: Held, tokens: int, passes: int) -> float:
    """Bytes that a device sends: layers gathered, gradients added, streams made whole."""
    config, mesh = work.config, cut.mesh
    share = lambda ways: (ways - 1) / ways  # noqa: E731
    gathers = 2 * passes * config.num_layers * held.layer if mesh.fsdp else 0
    streams = 5 if cut.remat == "layers" else 4
    whole = 2 * streams * config.num_layers * work.item * tokens * config.model_dim
    return (
        share(mesh.data) * (gathers + 2 * held.adapters * cut.micro_batches)
        + share(mesh.model) * whole
    )
