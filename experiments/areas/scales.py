"""What the three areas have in common at each scale."""

from collections.abc import Mapping
from typing import Any

from experiments.areas.area import Area, Control, Curve
from experiments.areas.rows import ALL_ROWS, CONTRASTS, CURVE_ROWS, FEW_ROWS, WITHOUT_DATA
from lorafuse_jax.workflow.train_config import TrainConfig

PAPERS_GROUP = (11, 42, 202)
GROUPS = (PAPERS_GROUP, (303, 404, 505), (606, 707, 808))
"""The first is the paper's."""

CURVE_SEEDS = tuple(range(1001, 1009))
TUNING_SEED = 5
SMALL_MODEL = "smollm2-135m-instruct"
RATES = (3e-4, 6e-4, 1.2e-3, 2.5e-3, 5e-3)
FULL_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4)
PAPER_RATES = (5e-5, 1e-4, 2e-4, 4e-4, 8e-4)
PAPER_FULL_RATES = (2e-6, 5e-6, 1e-5, 2e-5, 5e-5)


def controls_for(
    single: TrainConfig, members: int, rates: tuple[float, ...], full_rates: tuple[float, ...]
) -> tuple[Control, ...]:
    """N times the rank, n times longer, and full fine-tuning, each with a tuned learning rate.

    Args:
        single: how one adapter is trained, with one rank and a number of examples.
        members: n.
        rates: to choose from, of adapters.
        full_rates: likewise, of all parameters.
    """
    rank, alpha, examples = single.rank, single.alpha, single.examples
    assert isinstance(rank, int) and isinstance(alpha, float) and examples is not None
    wide = {"rank": members * rank, "alpha": members * alpha}
    full = {"method": "full", "seeds_per_pass": 1}
    return (
        Control(name="rank-n-r", changes=wide, learning_rates=rates),
        Control(name="longer", changes={"examples": members * examples}, learning_rates=rates),
        Control(name="full", changes=full, learning_rates=full_rates, rates_at_once=1),
    )


VARIANTS = (
    Control(name="lora-plus", changes={"lora_plus": 16.0}, learning_rates=PAPER_RATES, seeds="all"),
    Control(name="dora", changes={"method": "dora"}, learning_rates=PAPER_RATES, seeds="all"),
    Control(name="rslora", changes={"rslora": True}, learning_rates=PAPER_RATES, seeds="all"),
)
"""Other ways to train a low-rank update (2402.12354, 2402.09353, 2312.03732), as groups of n."""


def paper_area(name: str, model: str, data: str, tests: Mapping[str, int | None], **more) -> Area:
    """LLaMA2-7B or Mistral-7B; hyper-parameters are ours but for seeds and n.

    Args:
        name: of the results' files.
        model: on the hub.
        data: a recipe's name.
        tests: as in ``Area``.
        **more: fields of ``TrainConfig`` that are not as below.
    """
    settings: dict[str, Any] = {
        "rank": 16,
        "alpha": 32.0,
        "examples": 100_000,
        "examples_per_step": 32,
        "heldout_examples": 512,
        "max_length": 1024,
        "overlong": "drop",
    }
    single = TrainConfig(model=model, data=data, **(settings | more))
    return Area(
        name=name,
        single=single,
        learning_rates=PAPER_RATES,
        tuning_seed=TUNING_SEED,
        groups=GROUPS,
        controls=(*controls_for(single, 3, PAPER_RATES, PAPER_FULL_RATES), *VARIANTS),
        rows=WITHOUT_DATA,
        tests=tests,
        validation_examples=512,
        choose_on="first",
        learning_steps=100,
        curve=Curve(
            seeds=CURVE_SEEDS, sizes=(2, 3, 4, 6, 8), rows=CURVE_ROWS, tests=tuple(tests)[:1]
        ),
        contrasts=CONTRASTS,
    )


def laptop_area(
    name: str,
    data: str,
    tests: Mapping[str, int | None],
    *,
    groups: int,
    curve: bool = False,
    **more: Any,
) -> Area:
    """SmolLM2-135M in float32 on two CPU cores.

    Args:
        name: of the results' files.
        data: that ``lorafuse fetch`` gets.
        tests: as in ``Area``.
        groups: how many of ``GROUPS``.
        curve: whether there is a larger group as well.
        **more: fields of ``TrainConfig`` that are not as below.
    """
    settings: dict[str, Any] = {"examples": 240, "examples_per_step": 8, "heldout_examples": 32}
    single = TrainConfig(model=SMALL_MODEL, data=data, **(settings | more))
    followed = Curve(seeds=CURVE_SEEDS, sizes=(2, 4, 8), rows=CURVE_ROWS, tests=tuple(tests)[:1])
    return Area(
        name=name,
        single=single,
        learning_rates=RATES,
        tuning_seed=TUNING_SEED,
        groups=GROUPS[:groups],
        controls=controls_for(single, 3, RATES, FULL_RATES),
        rows=ALL_ROWS,
        tests=tests,
        validation_examples=32,
        curve=followed if curve else None,
        contrasts=CONTRASTS,
    )


def smoke_area(name: str, data: str, tests: Mapping[str, int | None], **more: Any) -> Area:
    """The real small model with hardly any data: every kind of step, and no finding.

    Args:
        name: of the results' files.
        data: that ``lorafuse fetch`` gets.
        tests: as in ``Area``.
        **more: fields of ``TrainConfig`` that are not as below.
    """
    settings: dict[str, Any] = {
        "examples": 8,
        "examples_per_step": 4,
        "heldout_examples": 2,
        "rank": 2,
        "alpha": 4.0,
    }
    single = TrainConfig(model=SMALL_MODEL, data=data, **(settings | more))
    return Area(
        name=name,
        single=single,
        learning_rates=RATES[1:3],
        tuning_seed=TUNING_SEED,
        groups=((11, 42), (303, 404)),
        controls=controls_for(single, 2, RATES[1:2], FULL_RATES[1:2]),
        rows=FEW_ROWS,
        tests=tests,
        validation_examples=2,
        learning_steps=2,
        statistic_examples=2,
        curve=Curve(seeds=CURVE_SEEDS[:3], sizes=(2, 3), rows=("mean",), tests=tuple(tests)[:1]),
        contrasts=CONTRASTS,
        rows_at_once=64,
    )
