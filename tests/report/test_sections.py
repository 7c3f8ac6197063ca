"""What the parts of the page say, against numbers counted here."""

import re
from dataclasses import replace

import numpy as np
import pytest

from lorafuse_jax.report.sections.cost import cost, duration, size
from lorafuse_jax.report.sections.diagnostics import diagnostics
from lorafuse_jax.report.sections.example_choice import choose
from lorafuse_jax.report.sections.example_groups import example_groups
from lorafuse_jax.report.sections.examples import TEXT_LENGTH, examples
from lorafuse_jax.report.sections.landscape import landscape
from lorafuse_jax.report.sections.losses import loss_curves, loss_words
from lorafuse_jax.report.sections.members import against_members
from lorafuse_jax.report.sections.metrics import metrics
from lorafuse_jax.report.sections.overlap import overlap
from tests.report.made import made_costs, made_diagnostics, made_metrics, made_result


@pytest.fixture(scope="module")
def result():
    return made_result(groups=4)


def rows_of(html):
    """Name -> texts of the cells, of the tables' rows."""
    plain = lambda text: re.sub(r"<[^>]+>", "", text)  # noqa: E731
    found = re.findall(r'<tr[^>]*><th scope="row"[^>]*>(.*?)</th>(.*?)</tr>', html)
    return {
        plain(name): [plain(c) for c in re.findall(r"<td[^>]*>(.*?)</td>", r)] for name, r in found
    }


def fused_against_seeds(result, model):
    right = result.scores.primary == 1
    seeds, own = right[1:4], right[result.scores.models.index(model)]
    return own, seeds


def test_chosen_examples_are_of_every_kind_and_only_telling_ones(result):
    chosen = choose(result.scores, 20)
    own, seeds = result.scores.primary[4:] == 1, result.scores.primary[1:4] == 1
    assert len(chosen.shown) == 20 and chosen.shown == sorted(chosen.shown)
    for kind, expected in (
        ("only-fused", own.any(0) & ~seeds.any(0)),
        ("lost", ~own.all(0) & seeds.all(0)),
        ("disagree", np.ptp(result.scores.primary[1:], axis=0) > 0),
    ):
        assert chosen.count(kind) == expected.sum()
        assert {n for n, kinds in chosen.kinds.items() if kind in kinds} == set(
            np.flatnonzero(expected).tolist()
        )
        assert any(kind in chosen.kinds[n] for n in chosen.shown)
    assert any("fault" in chosen.kinds[n] for n in chosen.shown)


def test_examples_show_what_each_model_said_and_what_could_not_be_scored(result):
    chosen = choose(result.scores, 20)
    html = examples(result, chosen, "t")
    assert f"Shown are 20, of {len(chosen.kinds)} on which they do" in html
    first = html[html.index("<details") : html.index("</details>")]
    number = chosen.shown[0]
    words = re.findall(r'class="(right|wrong)"><h5>([^<]+)', first)
    assert words == [
        ("right" if result.scores.primary[n, number] == 1 else "wrong", model)
        for n, model in enumerate(result.scores.models)
    ]
    assert "could not be scored: TimeoutError: stopped after 10 s" in html
    assert 'class="filter" hidden=""' in html


def test_long_answers_are_cut_and_say_so(result):
    id, model = result.scores.ids[0], result.scores.models[0]
    answer = replace(result.answers[id, model], texts=["x" * (TEXT_LENGTH + 7), "b", "c"])
    longer = replace(result, answers={**result.answers, (id, model): answer})
    chosen = choose(result.scores, 1)._replace(shown=[0], kinds={0: ["disagree"]})
    html = examples(longer, chosen, "t")
    assert "[7 more characters]" in html and "and 1 more samples" in html


def test_models_that_agree_are_shown_at_a_few_examples():
    alike = made_result(examples=10, fault=0)
    values = {"correct": np.ones_like(alike.scores.primary)}
    same = replace(alike, scores=replace(alike.scores, values=values))
    html = examples(same, choose(same.scores, 5), "t")
    assert "disagree on 0 of 10" in html and "Shown are 3, 0 on which they do" in html
    assert html.count("<details") == 3 and "fieldset" not in html


def test_overlap_counts_what_fusing_wins_and_loses_and_links_what_is_shown(result):
    chosen = choose(result.scores, 20)
    html = overlap(result, chosen, "t")
    rows = rows_of(html[html.index("What only the fused model solves") :])
    for model in ("mean", "seedlora"):
        own, seeds = fused_against_seeds(result, model)
        counts = [own & ~seeds.any(0), ~own & seeds.all(0), ~own & seeds.any(0) & ~seeds.all(0)]
        assert [rows[model][n] for n in (0, 2, 4)] == [str(int(x.sum())) for x in counts]
    linked = {int(n) - 1 for n in re.findall(r'href="#t-example-(\d+)"', html)}
    assert linked and linked <= set(chosen.shown)


def test_overlap_tells_union_intersection_and_chance(result):
    html = overlap(result, choose(result.scores, 5), "t")
    seeds = result.scores.primary[1:4] == 1
    rates = seeds.mean(axis=1)
    assert f"right on {seeds.any(0).mean():.0%} of 120" in html
    assert f"every one on {seeds.all(0).mean():.0%}" in html
    assert f"it would be {1 - np.prod(1 - rates):.0%} and {np.prod(rates):.0%}" in html
    agree = rows_of(html[html.index("Agreement on") : html.index("Agreement beyond")])["mean"][1]
    both = (result.scores.primary[5] == result.scores.primary[1]).mean()
    assert agree == f"{100 * both:.0f}"


def test_members_table_has_the_exchanges_with_each_seed(result):
    rows = rows_of(against_members(result.summary))
    own, seeds = fused_against_seeds(result, "mean")
    for place, seed in enumerate(seeds):
        assert rows["mean"][3 * place].startswith(f"{100 * (own.mean() - seed.mean()):+.1f}")
        assert rows["mean"][3 * place + 1] == f"{(own & ~seed).sum()} : {(~own & seed).sum()}"


def test_metrics_table_has_all_of_them_and_is_left_out_where_there_is_one(result):
    rows = rows_of(metrics(result.summary))
    for place, values in enumerate(result.scores.values.values()):
        assert rows["seedlora"][3 * place].startswith(f"{100 * values[7].mean():.1f}")
    assert metrics(made_result(examples=10, strict=False).summary) == ""


def test_groups_have_their_own_accuracies(result):
    rows = rows_of(example_groups(result.summary))
    inside = np.array([group == "group 2" for group in result.scores.groups])
    mean = 100 * result.scores.primary[1:4][:, inside].mean()
    assert rows["group 2"][:2] == [str(inside.sum()), f"{mean:.1f}"]
    assert f"{100 * result.scores.primary[5][inside].mean():.1f}" in rows["group 2"]
    assert example_groups(made_result(examples=10).summary) == ""


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


def test_curves_are_training_and_heldout_loss_of_every_seed_and_the_fused_one():
    curves = loss_curves(METRICS + FUSED + FROZEN)
    assert [len(curve.points) for curve in curves] == [3, 1, 3, 1, 1, 1, 2]
    assert curves[0].points[0] == pytest.approx((1, 1 / 12))
    labels = [curve.label for curve in curves if curve.label]
    assert labels == [
        "seed 11: 0.167",
        "seed 42: 0.167",
        "seed 7: 0.600, frozen at step 2",
        "mean of the seeds: 0.133",
    ]


def test_curves_of_many_steps_are_means_of_them():
    many = [{"step": n, "seed": 1, "train_loss": 1.0 + n % 2} for n in range(1, 1001)]
    points = loss_curves(many)[0].points
    assert len(points) == 100 and {y for _, y in points} == {1.5}


def test_words_say_what_the_curves_show():
    assert loss_words(METRICS + FUSED + FROZEN) == (
        "held-out loss in nats per answer token over 3 steps: seed 11 0.167; seed 42 0.167; "
        "seed 7 0.600, frozen at step 2; mean of the seeds from 0.200 to 0.133"
    )


def test_cost_adds_tokens_up_and_leaves_the_first_step_out_of_the_rate(result):
    lines = [
        {"step": 1, "seed": 1, "tokens": 100, "tokens_per_s": 1.0, "peak_share": 0.01},
        {"step": 1, "seed": 2, "tokens": 100, "tokens_per_s": 1.0, "peak_share": 0.01},
        {"step": 2, "seed": 1, "tokens": 300, "tokens_per_s": 50.0, "peak_share": 0.2},
        {"step": 3, "seed": 1, "tokens": 300, "tokens_per_s": 75.0, "peak_share": 0.4},
    ]
    html = cost(lines, made_costs(), [result])
    assert "3 training steps of 700 tokens" in html
    assert "at 60 tokens/s" in html and "30% of" in html  # 600 tokens in 6 + 4 seconds
    rows = rows_of(html)
    assert rows["answering gsm8k@metamath"][1:4] == ["5:40 min", "291", "3.0 GiB"]
    generated = [result.answers[id, "mean"].generated[0] for id in result.scores.ids]
    assert rows["mean"] == [f"{np.mean(generated):.1f}"]


def test_cost_of_runs_that_wrote_less_says_so(result):
    old = [{key: v for key, v in line.items() if key != "tokens"} for line in made_metrics(20)]
    html = cost(old, [], [result])
    assert "tokens/s (median)" in html and "were not recorded" in html
    assert "not recorded" in cost([], [], [])


def test_units_are_the_readable_ones():
    assert [duration(x) for x in (8.24, 185, 7260)] == ["8.2 s", "3:05 min", "2:01 h"]
    assert [size(x) for x in (3 << 20, 3 << 30)] == ["3 MiB", "3.0 GiB"]


def test_diagnostics_draw_each_module_and_compare_norms_with_the_seeds():
    found = made_diagnostics(layers=4)
    html = diagnostics(found)
    mean = np.mean(list(found.norms.values()), axis=0)
    ratio = np.mean(np.array(found.fused["mean"]) / mean)
    norms = html[html.index("Norm over the mean norm") :]
    assert f'>mean</span><span class="value">{ratio:.2f}</span>' in norms
    cosine = np.mean(found.modules["layers/mlp/up_proj"].cosine[1:])
    assert f'>mlp/up_proj</span><span class="value">{cosine:+.3f}</span>' in html
    assert diagnostics("no reason") == "<p>no reason</p>"


def test_landscape_shows_lines_mixtures_and_sizes():
    estimate = {"value": 0.02, "error": 0.005}
    line = {"seeds": [1, 2], "losses": [0.9, 0.5, 0.4, 0.6, 0.9], "middle": estimate}
    html = landscape(
        {
            "seeds": [1, 2, 3],
            "examples": 16,
            "lines": [line | {"barrier": {"height": estimate, "at": 0.5}}],
            "corners": [1, 2, 3],
            "triangle": [[[1, 0, 0], 0.5], [[0, 1, 0], 0.6], [[0.5, 0.5, 0], 0.4]],
            "sizes": {"mean": [{"size": 2, "losses": [0.3, 0.5], "spread": 0.1, "gain": estimate}]},
            "fusion": estimate,
            "scaled_fusion": estimate,
            "notes": ["a <note>"],
        }
    )
    assert "1 to 2: from 0.500 to 0.600, lowest 0.400" in html
    assert "lowest at 0.50 of seed 1, 0.50 of seed 2" in html
    assert rows_of(html)["mean, 2"] == ["2", "0.4000", "0.1000", "0.0200 ± 0.0050"]
    assert "a &lt;note&gt;" in html
