import numpy as np
import pytest

from lorafuse_jax.data.batches import Batch
from lorafuse_jax.data.loader import Loader, _row_counts
from lorafuse_jax.data.order import order_for_epoch
from lorafuse_jax.data.subset import subset_of
from lorafuse_jax.types import UserError
from tests.data.test_batches import check_whole, encoded


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
        assert batch.tokens.shape[:3] == (3, 1, 1)
        assert batch.tokens.shape[3:] in {(shape.rows, shape.length) for shape in loader.shapes}
        np.testing.assert_array_equal(batch.tokens[1], batch.tokens[2])
        own = [examples[n] for n in loader.chosen(11, step)]
        check_whole(Batch(*(leaf[0, 0, 0] for leaf in batch)), own)


def test_loader_is_a_function_of_the_step():
    examples = encoded([(4 + n % 5, 2) for n in range(12)], seed=2)
    make = lambda: Loader(examples, order_seeds=(1, 2), examples_per_step=5, num_steps=4)  # noqa: E731
    forward = [make().batch(step) for step in range(4)]
    late = make().batch(3)
    for mine, other in zip(forward[3], late, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_order_depends_on_seed_and_epoch_alone():
    order = lambda seed, epoch: order_for_epoch(seed, epoch, np.arange(30), 4).tolist()  # noqa: E731
    assert order(5, 1) == order(5, 1)
    assert order(5, 1) != order(5, 2)
    assert order(5, 1) != order(6, 1)


def test_order_is_a_permutation_whose_steps_hold_every_length():
    lengths = np.random.default_rng(0).integers(5, 400, 83)
    for strata in (1, 4, 8, 83):
        order = order_for_epoch(3, 0, lengths, strata)
        assert sorted(order) == list(range(83))
        ranks = np.argsort(np.argsort(lengths, kind="stable"))[order]
        for start in range(0, 83 - 83 % strata, strata):
            parts = ranks[start : start + strata] * strata // 83
            assert max(np.bincount(parts)) <= 2, "ties at the edges of parts, no more"


def test_order_makes_totals_of_steps_alike():
    lengths = np.random.default_rng(1).integers(20, 120, 800)
    totals = lambda strata: lengths[order_for_epoch(1, 0, lengths, strata)].reshape(100, 8).sum(1)  # noqa: E731
    assert totals(8).std() < 0.3 * totals(1).std()


def test_every_example_has_the_same_chance_of_every_place():
    """Over seeds, an example's place in the epoch is uniform, whatever its length."""
    lengths = np.array([5, 9, 14, 20, 33, 47, 60, 90])
    places = np.array([np.argsort(order_for_epoch(s, 0, lengths, 2)) for s in range(4000)])
    means = places.mean(axis=0)
    # 4000 draws of a place in 0..7 have a mean of 3.5 give or take 0.5 (the part's turn) + 0.15.
    assert (np.abs(means - 3.5) < 0.65).all(), means


def test_loader_deals_a_step_out_to_micro_batches_in_order():
    examples = encoded([(4 + n % 5, 2) for n in range(12)], seed=2)
    loader = Loader(examples, order_seeds=(1, 2), examples_per_step=6, num_steps=2, micro_batches=3)
    batch = loader.batch(1)
    assert batch.tokens.shape[:3] == (2, 3, 1)
    for micro in range(3):
        own = [examples[n] for n in loader.chosen(2, 1)[micro::3]]
        check_whole(Batch(*(leaf[1, micro, 0] for leaf in batch)), own)


def test_loader_cannot_deal_out_unevenly():
    examples = encoded([(4, 2)] * 8, seed=0)
    with pytest.raises(UserError, match=r"4 examples of a micro-batch .* 3 equal parts"):
        Loader(
            examples, order_seeds=(1,), examples_per_step=8, num_steps=1, micro_batches=2, parts=3
        )
    with pytest.raises(UserError, match="3 equal micro-batches"):
        Loader(examples, order_seeds=(1,), examples_per_step=8, num_steps=1, micro_batches=3)


@pytest.mark.parametrize(
    "needed, expected",
    [
        ([4] * 9, [4]),
        ([50] * 90 + [51], [51]),
        ([4] * 90 + [9], [4, 9]),
        ([1] * 50 + [2] * 30 + [9] * 3, [1, 2, 9]),
        ([1, 2, 3, 4, 5] * 9, [2, 4, 5]),
    ],
)
def test_row_counts_are_as_few_as_waste_little(needed, expected):
    counts = _row_counts(np.array(needed))
    rows = lambda counts: sum(min(c for c in counts if c >= n) for n in needed)  # noqa: E731
    assert rows(counts) == rows(expected)
    assert len(counts) == len(expected)


def test_loader_takes_the_smallest_shape_that_holds_a_step():
    """Two steps in a hundred hold a second long example, which needs a row of its own."""
    sizes = [(98, 2)] * 2 + [(60, 4)] * 4 + [(2, 1)] * 194
    examples = encoded(sizes, seed=3)
    loader = Loader(examples, order_seeds=(1, 2), examples_per_step=10, num_steps=20)
    assert len(loader.shapes) > 1
    rows = []
    for step in range(20):
        batch = loader.batch(step)
        rows.append(batch.tokens.shape[3])
        for k, seed in enumerate((1, 2)):
            own = [examples[n] for n in loader.chosen(seed, step)]
            check_whole(Batch(*(leaf[k, 0, 0] for leaf in batch)), own)
    assert set(rows) == {shape.rows for shape in loader.shapes}
    assert rows.count(1) > 10


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
            check_whole(Batch(*(leaf[member, 0, 0] for leaf in batch)), some)
    shared = Loader(examples, subset_seeds=(7, 7, 7), **settings)
    np.testing.assert_array_equal(shared.batch(1).tokens[0], shared.batch(1).tokens[2])


def test_subset_is_drawn_from_its_seed_alone_and_is_of_the_nearest_size():
    assert subset_of(3, 0.5, 9).tolist() == subset_of(3, 0.5, 9).tolist()
    assert len(subset_of(3, 0.3, 9)) == 3 and len(subset_of(3, 0.01, 9)) == 1
    assert subset_of(3, 1.0, 9).tolist() == list(range(9))
    counts = sum(np.bincount(subset_of(seed, 0.5, 10), minlength=10) for seed in range(400))
    assert np.abs(counts - 200).max() < 60
