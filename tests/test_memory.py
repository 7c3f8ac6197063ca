import jax
import jax.numpy as jnp

from lorafuse_jax import memory


def test_what_may_be_taken_is_less_than_what_the_machine_has():
    with open("/proc/meminfo") as lines:
        total = int(lines.readline().split()[1]) * 1024
    have = memory.available_bytes()
    assert have is not None and 0 < have < total
    assert 0.9 * have < (memory.usable_bytes() or 0) < have


def test_memory_that_is_taken_is_not_free_any_more():
    before = memory.available_bytes() or 0
    held = jax.block_until_ready(jnp.ones((1 << 27,)))  # half a gigabyte
    assert (memory.available_bytes() or 0) < before - held.nbytes / 2


def test_a_machine_that_does_not_say_is_not_judged(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    assert memory.usable_bytes() is None
