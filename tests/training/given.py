"""A tiny model's seeds and examples, for the tests of the step and of its objective."""

import jax
import jax.numpy as jnp
import numpy as np

from lorafuse_jax.adapted import batch_log_probs
from lorafuse_jax.data.batches import Batch, BatchShape, pack
from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.lora import LoraRule
from lorafuse_jax.training.step import Member, seed_keys
from tests.tiny import tiny_config

RULES = (LoraRule(rank=3, dropout=0.1, targets=r".*/down_proj"), LoraRule(rank=3))
CONFIG = tiny_config()
SEEDS = (11, 42, 202)


def examples(seed, count=6):
    rng = np.random.default_rng(seed)
    draw = lambda low, high: rng.integers(1, 97, rng.integers(low, high)).astype(np.int32)  # noqa: E731
    return [Encoded.from_answer(str(n), draw(3, 9), draw(2, 6)) for n in range(count)]


def chats(seed, count=6):
    """Two stretches with a loss in each example, at a weight of its own; one weighs nothing."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        edges = np.cumsum(rng.integers(1, 4, 4)).tolist()
        tokens = rng.integers(1, 97, edges[-1]).astype(np.int32)
        spans = [tuple(edges[:2]), tuple(edges[2:])]
        weight = 0.0 if number == 1 else float(rng.uniform(0.1, 3))
        made.append(Encoded.from_spans(str(number), tokens, spans, weight))
    return made


def packed(some, shape):
    return jax.tree.map(jnp.asarray, pack(some, shape))


def stacked_batch(step, data_seeds):
    each = [packed(examples(1000 * step + seed), BatchShape(4, 24, 40)) for seed in data_seeds]
    return Batch(*(jnp.stack(leaves)[:, None, None] for leaves in zip(*each, strict=True)))


def member(seeds, learning_rate):
    return Member(jnp.full(len(seeds), learning_rate), seed_keys(seeds, 3))


def log_probs(adapter, params, batch, member):
    return batch_log_probs(
        CONFIG, params, adapter, batch, rules=RULES, dropout_key=member.dropout_key
    )


WITHOUT_DROPOUT = Member(jnp.ones(()), None)
