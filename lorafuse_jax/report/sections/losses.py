"""How the losses went while training: curves, and the same in words."""

from lorafuse_jax.report.drawing import Curve, lines
from lorafuse_jax.report.markup import Html, figure

COLOURS = 8


def losses(metrics: list[dict]) -> Html:
    """Training loss (thin) and held-out loss (dots) of every seed, and of the seeds fused.

    The training loss is that of the step's batch up to 200 steps, beyond the mean of a hundredth of
    all steps, so that the curves stay readable.

    Args:
        metrics: lines of ``metrics.jsonl``, at least one of a seed.
    """
    return figure(
        "Loss while training, nats per answer token",
        lines(
            loss_curves(metrics),
            loss_words(metrics),
            x_name="step",
            y_name="nats per answer token",
            log=True,
        ),
        note="Thin: training batches. Dots: held-out examples, the last loss in the legend.",
    )


def loss_curves(metrics: list[dict]) -> list[Curve]:
    """Two curves a seed, and one for each way to fuse them while training."""
    last = max(line["step"] for line in metrics)
    size = last // 100 if last > 200 else 1
    curves = []
    for number, seed in enumerate(_seeds(metrics)):
        colour = f"s{number % COLOURS}"
        own = [line for line in metrics if line.get("seed") == seed]
        points = [(float(x["step"]), x["train_loss"]) for x in own if "train_loss" in x]
        curves.append(Curve("", f"{colour} thin", _smooth(points, size)))
        held = [(float(x["step"]), x["heldout_loss"]) for x in own if "heldout_loss" in x]
        frozen = [line["frozen_at"] for line in own if "frozen_at" in line]
        label = f"seed {seed}" + (f": {held[-1][1]:.3f}" if held else "")
        label += f", frozen at step {frozen[0]}" if frozen else ""
        curves.append(Curve(label, colour, held, dots=True))
    for name, held in _fused(metrics).items():
        points = [(float(line["step"]), line["heldout_loss"]) for line in held]
        label = f"{name} of the seeds: {points[-1][1]:.3f}"
        curves.append(Curve(label, "kind-fused dashed", points, dots=True))
    return curves


def loss_words(metrics: list[dict]) -> str:
    """What the curves show, for who cannot see them: first and last held-out loss of each."""
    parts = []
    for seed in _seeds(metrics):
        own = [line for line in metrics if line.get("seed") == seed]
        held = [line["heldout_loss"] for line in own if "heldout_loss" in line]
        text = f"seed {seed} " + (_from_to(held) if held else "without a held-out loss")
        frozen = [line["frozen_at"] for line in own if "frozen_at" in line]
        parts.append(text + (f", frozen at step {frozen[0]}" if frozen else ""))
    for name, held in _fused(metrics).items():
        parts.append(f"{name} of the seeds {_from_to([line['heldout_loss'] for line in held])}")
    last = max(line["step"] for line in metrics)
    return f"held-out loss in nats per answer token over {last} steps: " + "; ".join(parts)


def _from_to(values: list[float]) -> str:
    return f"from {values[0]:.3f} to {values[-1]:.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def _seeds(metrics: list[dict]) -> list[int]:
    return list(dict.fromkeys(line["seed"] for line in metrics if "seed" in line))


def _fused(metrics: list[dict]) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for line in metrics:
        if "fused" in line:
            found.setdefault(line["fused"], []).append(line)
    return found


def _smooth(points: list[tuple[float, float]], size: int) -> list[tuple[float, float]]:
    """Means of so many points after one another."""
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]
