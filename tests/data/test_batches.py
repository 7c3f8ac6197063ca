import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lorafuse_jax.data.batches import BatchShape, full_batches, pack
from lorafuse_jax.data.encode import Encoded

lengths = st.tuples(st.integers(1, 20), st.integers(1, 12))


def encoded(sizes, seed):
    """Distinct tokens everywhere, so that any mix-up shows."""
    rng = np.random.default_rng(seed)
    total = sum(p + c for p, c in sizes)
    tokens = (rng.permutation(total) + 1).astype(np.int32)
    examples = []
    for number, (p, c) in enumerate(sizes):
        examples.append(Encoded.from_answer(str(number), tokens[:p], tokens[p : p + c]))
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


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(1, 5), min_size=4, max_size=4), min_size=1, max_size=8))
def test_pack_gives_each_answer_of_a_chat_its_losses_at_its_weight(steps):
    start, examples = 1, []
    for number, widths in enumerate(steps):
        edges = np.cumsum(widths).tolist()
        tokens = np.arange(start, start + edges[-1], dtype=np.int32)
        start += edges[-1]
        spans, weight = [tuple(edges[:2]), tuple(edges[2:])], number % 3 / 2
        examples.append(Encoded.from_spans(str(number), tokens, spans, weight))
    (batch,) = full_batches(examples, row_length=23, rows=100)
    weights = {t: w for e in examples for t, w in zip(e.tokens, e.loss_weight, strict=True) if w}
    real = batch.loss_weight > 0
    found = dict(zip(batch.loss_target[real], batch.loss_weight[real], strict=True))
    assert found == weights and real.sum() == len(weights)
    # Tokens are numbered, so that the one before a target in its example is one less.
    before = batch.tokens.reshape(-1)[batch.loss_index[real]]
    np.testing.assert_array_equal(before, batch.loss_target[real] - 1)


def test_the_first_token_of_an_example_has_no_loss():
    one = Encoded.from_answer("1", np.zeros(0, np.int32), np.arange(1, 4, dtype=np.int32))
    assert one.loss_weight.tolist() == [0, 1, 1] and one.num_losses == 2
    assert one.length == 3 and one.completion.tolist() == [1, 2, 3]


def test_pack_pads_losses_with_weight_zero():
    batch = pack(encoded([(3, 2)], seed=0), BatchShape(1, 8, 5))
    assert batch.loss_weight.tolist() == [1, 1, 0, 0, 0]


def test_full_batches_have_rows_for_an_example_longer_than_asked():
    examples = encoded([(3, 2), (20, 4)], seed=0)
    batches = full_batches(examples, row_length=8, rows=1)
    assert batches[0].tokens.shape == (1, 24)
    targets = np.concatenate([b.loss_target[b.loss_weight > 0] for b in batches])
    assert sorted(targets) == sorted(t for e in examples for t in e.completion)
