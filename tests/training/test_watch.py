"""What is counted and decided around the step: arithmetic, patience, the ring of adapters."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.training import peak
from lorafuse_jax.training.flops import ModelSize, StepWork, count_work, needed_flops
from lorafuse_jax.training.patience import has_stalled, since_best
from lorafuse_jax.training.trajectory import fresh_trajectory, keep, of_seed
from lorafuse_jax.types import LoraPair


def test_work_of_a_packed_batch_is_what_counting_by_hand_gives():
    # One row of an example of 3 tokens and one of 2, then padding; losses on the last of each.
    batch = SimpleNamespace(
        segments=np.array([[1, 1, 1, 2, 2, 0, 0]]),
        positions=np.array([[0, 1, 2, 0, 1, 0, 0]]),
        loss_weight=np.array([0.5, 1.0, 0.0]),
    )
    assert count_work(batch) == StepWork(tokens=5, losses=2, pairs=1 + 2 + 3 + 1 + 2)
    assert count_work(batch, window=2).windowed_pairs == 1 + 2 + 2 + 1 + 2


def test_needed_flops_are_what_counting_by_hand_gives():
    size = ModelSize(
        projections=100, head=70, updates=10, attention=8, layers=2, sliding_layers=1, window=2
    )
    work = StepWork(tokens=5, losses=2, pairs=9, windowed_pairs=8)
    linear = 5 * (2 * 100 + 2 * 100 + 3 * 2 * 10)
    attention = (2 * 9 + 1 * 8) * 3 * (2 * 8 + 2 * 8)
    assert needed_flops(size, work) == linear + attention + 2 * (2 * 70 + 2 * 70)


def flops_of(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


def test_needed_flops_agree_with_those_that_xla_counts():
    """A frozen projection with an update, attention of one head and a frozen head, unmasked.

    XLA counts elementwise work too, and attention to all tokens: so pairs are T * T here.
    """
    tokens, width, rank, vocab = 64, 128, 8, 512
    draw = lambda n, *shape: jax.random.normal(jax.random.key(n), shape)  # noqa: E731
    x, kernel, head = draw(0, tokens, width), draw(1, width, width), draw(2, width, vocab)
    pair = (draw(3, width, rank), draw(4, rank, width))

    def loss(pair, x):
        h = x @ kernel + (x @ pair[0]) @ pair[1]
        mixed = jax.nn.softmax(h @ h.T) @ h
        return jnp.square(mixed @ head).sum()

    counted = flops_of(jax.grad(loss, argnums=(0, 1)), pair, x)
    size = ModelSize(
        projections=width * width,
        head=width * vocab,
        updates=2 * width * rank,
        attention=width,
        layers=1,
    )
    work = StepWork(tokens=tokens, losses=tokens, pairs=tokens * tokens)
    assert needed_flops(size, work) == pytest.approx(counted, rel=0.03)
    assert needed_flops(size, work) < counted


def test_peak_is_published_where_known_and_measured_where_not(monkeypatch):
    device = jax.devices("cpu")[0]
    monkeypatch.setattr(peak, "MEASURE_SECONDS", 0.02)
    peak._measure.cache_clear()
    assert 1e8 < peak.matmul_peak(device) < 1e14
    peak._measure.cache_clear()
    monkeypatch.setitem(peak.PUBLISHED, device.device_kind, 989e12)
    assert peak.matmul_peak() == 989e12


@pytest.mark.parametrize(
    ("losses", "since"),
    [([], 0), ([3.0], 0), ([3.0, 2.0, 2.0], 1), ([1.0, 2.0, 1.5, 0.9, 1.0, 0.95], 2)],
)
def test_evaluations_since_the_best_are_counted(losses, since):
    assert since_best(losses) == since
    assert not has_stalled(losses, since + 1)
    assert since == 0 or has_stalled(losses, since)


def test_loss_that_is_not_finite_is_no_fall():
    assert since_best([2.0, float("nan"), float("inf")]) == 2


def stacked(n):
    rng = np.random.default_rng(n)
    return {"m": LoraPair(*(jnp.asarray(rng.normal(size=s)) for s in ((2, 3, 5, 2), (2, 3, 2, 4))))}


@pytest.mark.parametrize("count", [1, 3, 5])
def test_trajectory_keeps_the_last_adapters_of_every_seed(count):
    trajectory = fresh_trajectory(stacked(0), 3)
    for n in range(count):
        trajectory = keep(trajectory, stacked(n))
        # As it comes back from a checkpoint.
        trajectory = jax.tree.map(jnp.asarray, trajectory)
    kept = of_seed(trajectory, 1)["m"]
    found = sorted(float(leaf.sum()) for leaf in kept.lora_a)
    expected = range(max(0, count - 3), count)
    assert found == pytest.approx(sorted(float(stacked(n)["m"].lora_a[1].sum()) for n in expected))
    assert kept.lora_b.shape == (min(count, 3), 3, 2, 4)
