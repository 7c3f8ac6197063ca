import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorafuse_jax.data.batches import BatchShape, Loader, full_batches, order_for_epoch, pack
from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.data.subset import subset_of
from lorafuse_jax.types import UserError

lengths = st.tuples(st.integers(1, 20), st.integers(1, 12))


def encoded(sizes, seed):
    """Distinct tokens everywhere, so that any mix-up shows."""
    rng = np.random.default_rng(seed)
    total = sum(p + c for p, c in sizes)
    tokens = (rng.permutation(total) + 1).astype(np.int32)
    examples = []
    for number, (p, c) in enumerate(sizes):
        examples.append(Encoded(str(number), tokens[:p], tokens[p : p + c]))
        tokens = tokens[p + c :]
    return examples


def check_whole(batch, examples):
    """Every token once, where it belongs; every answer token predicted from the one before it."""
    flat = batch.tokens.reshape(-1)
    places = [np.flatnonzero(batch.segments.reshape(-1))]
    assert sorted(flat[places[0]]) == sorted(
        t for e in examples for t in [*e.prompt, *e.completion]
    )
    assert (flat[batch.segments.reshape(-1) == 0] == 0).all()
    for number, example in enumerate(examples):
        tokens = np.concatenate([example.prompt, example.completion])
        start = int(np.flatnonzero(flat == tokens[0])[0])
        here = slice(start, start + len(tokens))
        np.testing.assert_array_equal(flat[here], tokens)
        np.testing.assert_array_equal(batch.positions.reshape(-1)[here], np.arange(len(tokens)))
        assert len(set(batch.segments.reshape(-1)[here])) == 1
        assert start // batch.tokens.shape[1] == (here.stop - 1) // batch.tokens.shape[1]
        mine = (batch.loss_example == number) & (batch.loss_weight > 0)
        np.testing.assert_array_equal(batch.loss_target[mine], example.completion)
        expected = start + len(example.prompt) - 1 + np.arange(len(example.completion))
        np.testing.assert_array_equal(batch.loss_index[mine], expected)


def check_segments_differ(batch):
    for row_positions, row_segments in zip(batch.positions, batch.segments, strict=True):
        starts = np.flatnonzero((row_positions == 0) & (row_segments > 0))
        assert len(set(row_segments[starts])) == len(starts)


@settings(max_examples=60, deadline=None)
@given(st.lists(lengths, min_size=1, max_size=12), st.integers(0, 1000))
def test_pack_keeps_every_token_once_and_apart(sizes, seed):
    examples = encoded(sizes, seed)
    longest = max(p + c for p, c in sizes)
    batches = full_batches(examples, row_length=longest + 3, rows=100)
    assert len(batches) == 1
    order = [int(n) for n in _order_of(batches[0], examples)]
    check_whole(batches[0], [examples[n] for n in order])
    check_segments_differ(batches[0])


def _order_of(batch, examples):
    """full_batches numbers examples in packing order; find it from their first target."""
    first = {int(e.completion[0]): n for n, e in enumerate(examples)}
    owners = batch.loss_example[batch.loss_weight > 0]
    targets = batch.loss_target[batch.loss_weight > 0]
    return [first[int(targets[np.flatnonzero(owners == k)[0]])] for k in range(len(examples))]


def test_full_batches_cover_all_examples_in_one_shape():
    examples = encoded([(5 + n % 7, 1 + n % 3) for n in range(23)], seed=1)
    batches = full_batches(examples, row_length=16, rows=3)
    assert len({tuple(leaf.shape for leaf in batch) for batch in batches}) == 1
    targets = np.concatenate([b.loss_target[b.loss_weight > 0] for b in batches])
    assert sorted(targets) == sorted(t for e in examples for t in e.completion)


def test_loader_gives_each_seed_its_own_order_and_all_examples_once_an_epoch():
    examples = encoded([(4 + n % 5, 2) for n in range(12)], seed=2)
    loader = Loader(examples, order_seeds=(11, 42, 42), examples_per_step=4, num_steps=6)
    for seed in (11, 42):
        epochs = [
            [n for s in steps for n in loader.chosen(seed, s)] for steps in ((0, 1, 2), (3, 4, 5))
        ]
        assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
        assert epochs[0] != epochs[1]
    assert loader.chosen(11, 0) != loader.chosen(42, 0)
    for step in range(6):
        batch = loader.batch(step)
        assert batch.tokens.shape == (3, 1, loader.shape.rows, loader.shape.length)
        np.testing.assert_array_equal(batch.tokens[1], batch.tokens[2])
        own = [examples[n] for n in loader.chosen(11, step)]
        check_whole(type(batch)(*(leaf[0, 0] for leaf in batch)), own)
        assert loader.tokens(step) == int((batch.segments > 0).sum())


def test_loader_gives_each_seed_its_own_subset_once_an_epoch():
    examples = encoded([(4 + n % 5, 2) for n in range(20)], seed=2)
    settings = {"order_seeds": (1, 2, 1), "subset": 0.4, "examples_per_step": 4, "num_steps": 4}
    own = Loader(examples, subset_seeds=(1, 2, 2), **settings)
    seen = [
        [{n for s in steps for n in own.chosen(seed, s, subset)} for steps in ((0, 1), (2, 3))]
        for seed, subset in ((1, 1), (2, 2), (1, 2))
    ]
    for first_epoch, second_epoch in seen:
        assert first_epoch == second_epoch and len(first_epoch) == 8
    assert seen[0] != seen[1] == seen[2]
    assert own.chosen(1, 0, 2) != own.chosen(2, 0, 2)
    for step in range(4):
        batch = own.batch(step)
        for member, draw in enumerate(((1, 1), (2, 2), (1, 2))):
            some = [examples[n] for n in own.chosen(draw[0], step, draw[1])]
            check_whole(type(batch)(*(leaf[member, 0] for leaf in batch)), some)
    shared = Loader(examples, subset_seeds=(7, 7, 7), **settings)
    np.testing.assert_array_equal(shared.batch(1).tokens[0], shared.batch(1).tokens[2])


def test_subset_is_drawn_from_its_seed_alone_and_is_of_the_nearest_size():
    assert subset_of(3, 0.5, 9).tolist() == subset_of(3, 0.5, 9).tolist()
    assert len(subset_of(3, 0.3, 9)) == 3 and len(subset_of(3, 0.01, 9)) == 1
    assert subset_of(3, 1.0, 9).tolist() == list(range(9))
    counts = sum(np.bincount(subset_of(seed, 0.5, 10), minlength=10) for seed in range(400))
    assert np.abs(counts - 200).max() < 60


def test_loader_is_a_function_of_the_step():
    examples = encoded([(4 + n % 5, 2) for n in range(12)], seed=2)
    make = lambda: Loader(examples, order_seeds=(1, 2), examples_per_step=5, num_steps=4)  # noqa: E731
    forward = [make().batch(step) for step in range(4)]
    late = make().batch(3)
    for mine, other in zip(forward[3], late, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_order_depends_on_seed_and_epoch_alone():
    assert order_for_epoch(5, 1, 30).tolist() == order_for_epoch(5, 1, 30).tolist()
    assert order_for_epoch(5, 1, 30).tolist() != order_for_epoch(5, 2, 30).tolist()
    assert order_for_epoch(5, 1, 30).tolist() != order_for_epoch(6, 1, 30).tolist()


def test_pack_pads_losses_with_weight_zero():
    batch = pack(encoded([(3, 2)], seed=0), BatchShape(1, 8, 5))
    assert batch.loss_weight.tolist() == [1, 1, 0, 0, 0]


def test_loader_deals_a_step_out_to_micro_batches_in_order():
    examples = encoded([(4 + n % 5, 2) for n in range(12)], seed=2)
    loader = Loader(examples, order_seeds=(1, 2), examples_per_step=6, num_steps=2, micro_batches=3)
    batch = loader.batch(1)
    assert batch.tokens.shape[:2] == (2, 3)
    for micro in range(3):
        own = [examples[n] for n in loader.chosen(2, 1)[2 * micro : 2 * micro + 2]]
        check_whole(type(batch)(*(leaf[1, micro] for leaf in batch)), own)


def test_loader_cannot_deal_out_unevenly():
    examples = encoded([(4, 2)] * 8, seed=0)
    with pytest.raises(UserError, match="3 equal micro-batches"):
        Loader(examples, order_seeds=(1,), examples_per_step=8, num_steps=1, micro_batches=3)
