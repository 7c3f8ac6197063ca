import pytest

from lorafuse_jax.report.training import loss_figure, loss_words

METRICS = [
    {"step": step, "seed": seed, "train_loss": 1 / (step + seed)}
    | ({"heldout_loss": 0.5 / step} if step == 3 else {})
    for step in (1, 2, 3)
    for seed in (11, 42)
]
FUSED = [{"step": s, "fused": "mean", "heldout_loss": 0.4 / s} for s in (2, 3)]
FROZEN = [
    {"step": 1, "seed": 7, "train_loss": 0.5, "heldout_loss": 0.6},
    {"step": 2, "seed": 7, "frozen_at": 2},
]


def curves(metrics):
    (axes,) = loss_figure(metrics).axes
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    return [(list(x.get_xdata()), list(x.get_ydata())) for x in axes.lines], legend


def test_loss_figure_draws_train_and_heldout_of_every_seed():
    lines, legend = curves(METRICS)
    assert [steps for steps, _ in lines] == [[1, 2, 3], [3]] * 2
    assert lines[0][1] == pytest.approx([1 / 12, 1 / 13, 1 / 14])
    assert legend == ["seed 11: 0.167", "seed 42: 0.167"]


def test_loss_figure_draws_the_fused_loss_beside_the_members():
    lines, legend = curves(METRICS + FUSED)
    assert lines[-1] == ([2, 3], pytest.approx([0.2, 0.4 / 3]))
    assert legend[-1] == "mean of the seeds: 0.133"


def test_loss_figure_marks_where_a_seed_was_frozen():
    lines, legend = curves(METRICS + FROZEN)
    assert legend[-1] == "seed 7: 0.600, frozen at step 2"
    assert lines[-1] == ([1], [0.5])


def test_loss_figure_of_many_steps_shows_means_of_them():
    many = [{"step": n, "seed": 1, "train_loss": 1.0 + n % 2} for n in range(1, 1001)]
    lines, _ = curves(many)
    assert len(lines[0][0]) == 100
    assert lines[0][1] == pytest.approx([1.5] * 100)


def test_loss_words_say_what_the_figure_shows():
    assert loss_words(METRICS + FUSED + FROZEN) == (
        "held-out loss in nats per answer token over 3 steps: seed 11 0.167; seed 42 0.167; "
        "seed 7 0.600, frozen at step 2; mean of the seeds from 0.200 to 0.133"
    )
