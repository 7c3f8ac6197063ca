"""The three areas on a tiny random model."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from experiments.areas.area import Area
from experiments.areas.study import Study
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.tiny import write_sums, write_tiny_model

SCRIPTS = ("math_reasoning", "code_generation", "instruction_following")


def script(name: str) -> Any:
    return import_module(f"experiments.{name}")


def write_inputs(folder: Path) -> tuple[Path, Path]:
    return write_tiny_model(folder / "model"), write_sums(folder / "sums", test=12)


def tiny_area(name: str, inputs: tuple[Path, Path], tests: dict[str, int | None], **more) -> Area:
    """What a script's smoke scale is, on another model with other data and tests."""
    model, data = inputs
    smoke = script(name).CONFIG["smoke"]
    single: TrainConfig = replace(
        smoke.single, model=str(model), data=str(data), examples=8, max_length=None
    )
    rates = (1e-3, 1e-2)
    controls = tuple(
        replace(one, learning_rates=rates if one.name == "full" else (), rates_at_once=None)
        for one in smoke.controls
        if one.name != "longer"  # trained as all others
    )
    curve = replace(smoke.curve, tests=tuple(tests)[:1]) if smoke.curve is not None else None
    settings = {"learning_rates": rates, "controls": controls, "tests": tests, "curve": curve}
    return replace(smoke, name=f"{name}-tiny", single=single, **(settings | more))


def study_of(area: Area, out: Path) -> Study:
    return Study(area, out)


def write_problems(path: Path, count: int) -> Path:
    """HumanEval's columns."""
    rows = [
        {
            "task_id": f"HumanEval/{n}",
            "prompt": f"def f{n}():\n",
            "entry_point": f"f{n}",
            "canonical_solution": f"    return {n}\n",
            "test": f"def check(candidate):\n    assert candidate() == {n}\n",
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_choices(path: Path, count: int) -> Path:
    """BoolQ's columns."""
    rows = [{"passage": f"{n} is.", "question": f"is {n}", "label": n % 2} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
