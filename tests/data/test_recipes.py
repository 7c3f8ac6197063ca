"""Recipes on small files in the originals' columns, and with a hub that the test plays."""

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorafuse_jax.assets import ASSETS
from lorafuse_jax.data.encode import encode
from lorafuse_jax.data.examples import normalize
from lorafuse_jax.data.recipes import RECIPES, load_recipe
from lorafuse_jax.data.templates import TEMPLATES
from lorafuse_jax.types import UserError
from tests.tiny import tiny_tokenizer

WORKED = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n#### 1,024"
ORIGINALS = {
    "metamathqa": {
        "type": "MATH_AnsAug",
        "query": "What is 1+1?",
        "original_question": "What is one and one?",
        "response": "One and one.\n#### 2\nThe answer is: 2",
    },
    "gsm8k": {"question": "How many clips?", "answer": WORKED},
    "math": {
        "problem": "What is $x$?",
        "level": "Level 2",
        "type": "Algebra",
        "solution": r"Since $x=\boxed{3}$ fails, $x=\boxed{\frac{1}{2}}$.",
    },
    "codefeedback": {
        "query": "Add two numbers.",
        "answer": "a + b",
        "resource": "evolinstruct",
        "lang": "python",
    },
    "magicoder-oss": {
        "lang": "python",
        "raw_index": 1,
        "index": 2,
        "seed": "x = 1",
        "openai_fingerprint": "fp",
        "problem": "Add.",
        "solution": "a + b",
    },
    "magicoder-evol": {"instruction": "Add.", "response": "a + b"},
    "tulu-v2": {
        "dataset": "lima",
        "id": "lima_0",
        "messages": [
            {"role": "user", "content": "Hi?"},
            {"role": "assistant", "content": "Ho."},
            {"role": "user", "content": "Unanswered"},
        ],
    },
    "alpaca": {
        "instruction": "Name the colour.",
        "input": "Grass",
        "output": "Green",
        "text": "Below is an instruction ...",
    },
}
MADE = {
    "metamathqa": ("What is 1+1?", "One and one.\n#### 2\nThe answer is: 2", "2"),
    "gsm8k": ("How many clips?", "Natalia sold 48/2 = 24 clips in May.\n#### 1,024", "1024"),
    "math": ("What is $x$?", ORIGINALS["math"]["solution"], r"\frac{1}{2}"),
    "codefeedback": ("Add two numbers.", "a + b", None),
    "magicoder-oss": ("Add.", "a + b", None),
    "magicoder-evol": ("Add.", "a + b", None),
    "tulu-v2": ("Hi?", "Ho.", None),
    "alpaca": ("Name the colour.\n\n### Input:\nGrass", "Green", None),
}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load(name, place=None):
    return load_recipe(name, RECIPES[name], place)


def all_of(task):
    return [one for examples in task.splits.values() for one in examples]


@pytest.fixture
def no_shared_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


@pytest.fixture
def hub(monkeypatch):
    """Repositories by name and configuration; gives what was asked for."""
    repositories, asked = {}, []

    def load_dataset(source, config=None):
        asked.append((source, config))
        if (source, config) not in repositories:
            raise ConnectionError("no hub")
        splits = repositories[source, config]
        return datasets.DatasetDict(
            {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return repositories, asked


@pytest.mark.parametrize("name", RECIPES)
def test_a_row_of_the_original_becomes_the_example(tmp_path, name):
    task = load(name, write(tmp_path / "local.jsonl", [ORIGINALS[name]]))
    (one,) = all_of(task)
    assert (one.prompt, one.completion, one.answer) == MADE[name]
    assert one.where == f"{tmp_path / 'local.jsonl'}:1"
    assert task.template == RECIPES[name].template and task.template in TEMPLATES


@pytest.mark.parametrize("name", RECIPES)
def test_the_hub_gives_the_same_from_all_configurations(tmp_path, hub, name):
    repositories, asked = hub
    recipe = RECIPES[name]
    for number, config in enumerate(recipe.configs):
        varied = json.loads(json.dumps(ORIGINALS[name]).replace("?", f" {number}?"))
        repositories[recipe.hub, config] = {"train": [varied]}
    task = load(name)
    assert asked == [(recipe.hub, config) for config in recipe.configs]
    assert len(all_of(task)) == len(recipe.configs)
    assert all(one.where.startswith(recipe.hub) for one in all_of(task))
    assert len({one.id for one in all_of(task)}) == len(recipe.configs)
    assert {one.completion for one in all_of(task)} == {MADE[name][1]}


@pytest.mark.parametrize("name", RECIPES)
def test_a_missing_column_is_named_with_those_of_the_original(tmp_path, name):
    (column, *_) = RECIPES[name].columns
    row = {key: value for key, value in ORIGINALS[name].items() if key != column}
    path = write(tmp_path / "local.jsonl", [ORIGINALS[name], row])
    with pytest.raises(UserError, match=rf"local\.jsonl:2: no column '{column}'; .* has {column}"):
        load(name, path)


def test_silent_hub_says_how_to_name_a_local_copy(hub):
    with pytest.raises(UserError, match=r"openai/gsm8k: .*no hub\).*NAME:/path"):
        load("gsm8k")
    with pytest.raises(UserError, match="does not exist"):
        load("gsm8k", Path("/no/such/place"))


def test_folders_are_read_as_datasets_reads_them(tmp_path, no_shared_cache):
    """A plain folder of JSONL, and a snapshot of a repository with several configurations."""
    row = ORIGINALS["gsm8k"]
    rows = lambda word: [row | {"question": f"{word} {n}?"} for n in range(60)]  # noqa: E731
    (tmp_path / "plain").mkdir()
    write(tmp_path / "plain" / "train.jsonl", rows("Plain train"))
    write(tmp_path / "plain" / "test.jsonl", rows("Plain test"))
    card = "---\nconfigs:\n"
    for config in ("socratic", "main"):
        folder = tmp_path / "snapshot" / config
        folder.mkdir(parents=True)
        card += f"- config_name: {config}\n  data_files:\n"
        for split in ("train", "test"):
            file = f"{split}-00000-of-00001.parquet"
            pq.write_table(pa.Table.from_pylist(rows(f"{config} {split}")), folder / file)
            card += f"  - split: {split}\n    path: {config}/{split}-*\n"
    (tmp_path / "snapshot" / "README.md").write_text(card + "---\n")
    for kind, word in (("plain", "Plain"), ("snapshot", "main")):
        task = load("gsm8k", tmp_path / kind)
        train, test = task.splits["train"] + task.splits["validation"], task.splits["test"]
        assert {one.prompt for one in train} == {f"{word} train {n}?" for n in range(60)}
        assert {one.prompt for one in test} == {f"{word} test {n}?" for n in range(60)}
        assert task.splits["validation"] and len(task.splits["validation"]) < 12


def test_versions_of_one_problem_stay_on_one_side(tmp_path):
    rows = [
        ORIGINALS["metamathqa"] | {"query": f"Way {way} of {n}?", "original_question": f"Q {n}"}
        for n in range(800)
        for way in range(4)
    ]
    task = load("metamathqa", write(tmp_path / "meta.jsonl", rows))
    sides = {}
    for split, examples in task.splits.items():
        for one in examples:
            sides.setdefault(one.prompt.split(" of ")[1], set()).add(split)
    assert len(sides) == 800 and all(len(side) == 1 for side in sides.values())
    assert all(task.splits.values()) and len(task.splits["validation"]) < 100


def test_empty_repeated_and_held_out_rows_are_left_out_and_counted(hub):
    repositories, _ = hub
    row = ORIGINALS["gsm8k"]
    train = [row | {"question": f"Train {n}?"} for n in range(40)]
    test = [row | {"question": f"Test {n}?"} for n in range(10)]
    worked_otherwise = train[0] | {"answer": "Another way.\n#### 7"}
    extra = [train[0], worked_otherwise, row | {"question": " "}, row | {"answer": ""}]
    leaked = [test[3] | {"question": "TEST 3"}]
    repositories["openai/gsm8k", "main"] = {"train": train + extra + leaked, "test": test}
    task = load("gsm8k")
    assert task.left_out == {"empty": 2, "duplicates": 1, "also held out": 1}
    assert len(task.splits["test"]) == 10 and len(all_of(task)) == 51
    kept = [one.completion for one in all_of(task) if one.prompt == "Train 0?"]
    assert len(kept) == 2
    prompts = [{normalize(one.prompt) for one in some} for some in task.splits.values()]
    assert sum(map(len, prompts)) == len(set().union(*prompts))


def test_alpaca_has_a_prompt_with_input_and_one_without(tmp_path):
    rows = [ORIGINALS["alpaca"], ORIGINALS["alpaca"] | {"input": "", "instruction": "Say hi."}]
    task = load("alpaca", write(tmp_path / "alpaca.jsonl", rows))
    tokenizer = tiny_tokenizer()
    texts = [
        tokenizer.decode(encode(one, tokenizer, "alpaca").prompt)
        for one in sorted(all_of(task), key=lambda one: one.id)
    ]
    assert texts == [
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nName the colour.\n\n### Input:\nGrass\n\n### Response:",
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nSay hi.\n\n### Response:",
    ]


def test_tulu_ends_with_the_last_answer_and_leaves_out_chats_without_one(tmp_path):
    chat = ORIGINALS["tulu-v2"]
    lonely = chat | {"messages": [{"role": "user", "content": "Anyone?"}]}
    task = load("tulu-v2", write(tmp_path / "tulu.jsonl", [chat, lonely, {"messages": []}]))
    (one,) = all_of(task)
    assert [turn.role for turn in one.turns] == ["user", "assistant"]
    assert task.left_out["empty"] == 2


def test_names_of_recipes_and_assets_differ():
    assert not RECIPES.keys() & ASSETS.keys()
