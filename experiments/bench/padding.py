"""How much of what a training step computes is real: plainly shuffled steps, and stratified ones.

    .venv/bin/python experiments/bench/padding.py [--steps 100]

Plans the shapes of the first steps of a run on real text, for three and eight seeds of 8 and 16
examples a step. Nothing is trained: a shape must hold the worst step, so this needs many steps.
"""

import argparse
import json

from rich.console import Console
from rich.table import Table
from train_work import SEEDS, load_text

from lorafuse_jax.data import loader
from lorafuse_jax.data.order import order_for_epoch

ORDERS = {
    "shuffled": lambda seed, epoch, lengths, strata: order_for_epoch(seed, epoch, lengths),
    "stratified": order_for_epoch,
}


def real_share(examples: list, seeds: int, per_step: int, steps: int) -> float:
    """Real tokens of the computed ones, over all steps and seeds."""
    batches = loader.Loader(
        examples, order_seeds=SEEDS[:seeds], examples_per_step=per_step, num_steps=steps
    )
    segments = [batches.batch(step).segments for step in range(steps)]
    return sum(int((some > 0).sum()) for some in segments) / sum(some.size for some in segments)


def main() -> None:
    """Plan, print, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    table, found = Table("text, seeds x examples a step", *ORDERS), {}
    for data in ("asdiv", "gsm-symbolic"):
        _, examples, _ = load_text(data)
        for seeds, per_step in ((3, 8), (3, 16), (8, 8), (8, 16)):
            steps = min(options.steps, len(examples) // per_step)
            name = f"{data}, {seeds} x {per_step}"
            found[name] = {}
            for kind, order in ORDERS.items():
                setattr(loader, "order_for_epoch", order)  # noqa: B010
                found[name][kind] = round(real_share(examples, seeds, per_step, steps), 3)
            table.add_row(name, *(f"{share:.0%}" for share in found[name].values()))
    Console().print(table)
    print(json.dumps({"bench": "padding", "real": found}))


if __name__ == "__main__":
    main()
