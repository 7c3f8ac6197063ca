"""The direction of imports, read from the source: the house stays as it was drawn."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lorafuse_jax"
BASE = {"types"}
ALLOWED = {
    "types": set(),
    "control_groups": set(),
    "memory": {"control_groups"},
    "doctor": {"control_groups", "memory"},
    "prompts": set(),
    "worked": BASE,
    "adapter_spectral": BASE,
    "adapter": BASE | {"adapter_spectral"},
    "adapter_merge": BASE | {"adapter"},
    "fusion": BASE | {"adapter", "adapter_spectral"},
    "formats": BASE | {"adapter", "parallel"},
    "parallel": BASE,
    "models": BASE | {"memory", "parallel"},
    "data": BASE | {"prompts", "worked"},
    "assets": BASE | {"data", "evaluation", "models"},
    "training": BASE | {"parallel"},
    "plan": BASE | {"models", "parallel", "training"},
    "generation": BASE | {"memory", "parallel"},
    "evaluation": BASE | {"prompts", "worked"},
    "landscape": BASE,
    "report": BASE | {"evaluation", "landscape"},
    "run_folder": BASE,
    "ends": BASE | {"models"},
    "lora": BASE | {"adapter", "models", "ends"},
    "full_rank": BASE | {"adapter"},
    "lora_init": BASE | {"adapter_merge", "models", "lora"},
    "dora": BASE | {"models", "lora"},
    "gram": BASE | {"models", "lora"},
    "bank": BASE | {"models", "lora", "ends"},
    "mixture": BASE | {"models", "lora", "ends"},
    "names": BASE | {"models"},
    "text_generation": BASE | {"bank", "adapted", "models", "generation", "lora", "names"},
    "adapted": BASE | {"adapter", "bank", "models", "lora", "dora", "gram", "mixture", "names"},
}
"""What a part may import of the others; ``workflow``, ``cli`` and ``api`` may import all."""


def part_of(module: str) -> str | None:
    names = module.split(".")
    return names[1] if names[0] == "lorafuse_jax" and len(names) > 1 else None


def imports_of(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def files_of(part: str) -> list[Path]:
    folder = PACKAGE / part
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{part}.py"]


@pytest.mark.parametrize("part", ALLOWED)
def test_part_imports_only_what_stands_below_it(part):
    for file in files_of(part):
        used = {part_of(module) for module in imports_of(file)} - {None, part}
        assert used <= ALLOWED[part], f"{file} imports {sorted(used - ALLOWED[part])}"


def test_only_models_and_lora_know_flax():
    for file in PACKAGE.rglob("*.py"):
        if any(module.split(".")[0] == "flax" for module in imports_of(file)):
            assert file.relative_to(PACKAGE).parts[0] in ("models", "lora.py"), file


def test_every_part_is_in_the_table():
    parts = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert parts - {"__init__", "__main__", "api", "cli", "workflow"} == set(ALLOWED)


def test_no_file_is_longer_than_three_hundred_lines():
    for file in PACKAGE.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 300, file
