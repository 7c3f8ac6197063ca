"""What training reads: chats, weights, recipes, kept tokens; and what it says of held-out data."""

import json

import pytest
from transformers import AutoTokenizer

from lorafuse_jax.data import encode
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow import inputs as module
from lorafuse_jax.workflow.benchmarks import pose, pose_data
from lorafuse_jax.workflow.inputs import fingerprint_of, load_any_task, load_inputs
from lorafuse_jax.workflow.questions import requests_of
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.tiny import write_sums, write_tiny_model

CHATML = (
    "{% for m in messages %}({{ m.role }}) {{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}(assistant) {% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_tiny_model(tmp_path_factory.mktemp("inputs") / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    return folder


def config(model, data, **changes):
    settings = {"model": str(model), "data": str(data), "seeds": (1, 2), "rank": 2}
    settings |= {"examples": 8, "examples_per_step": 4, "heldout_examples": 4}
    return TrainConfig(**(settings | changes))


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def talk(number, **more):
    turns = [f"Start {number}?", f"Yes {number}.", "More?", "No."]
    roles = ("user", "assistant") * 2
    messages = [{"role": r, "content": c} for r, c in zip(roles, turns, strict=True)]
    return {"messages": messages, "answer": number} | more


@pytest.fixture
def chats(tmp_path):
    folder = tmp_path / "chats"
    write(folder / "train.jsonl", [talk(n, weight=n % 3) for n in range(12)])
    write(folder / "validation.jsonl", [talk(n) for n in range(20, 24)])
    write(folder / "test.jsonl", [talk(n) for n in range(30, 33)])
    return folder


def test_chats_are_trained_on_and_asked_by_their_last_turn(model, chats, tmp_path):
    run = train(config(model, chats), tmp_path / "run")
    assert run.config()["template"] == "chat"
    assert len(run.trained_seeds()) == 2
    loaded, task = load_inputs(config(model, chats))
    assert [one.num_losses > 0 for one in task.train] == [n % 3 > 0 for n in range(12)]
    asked = requests_of(pose(str(chats), None), loaded, "chat")[0][0]
    text = loaded.tokenizer.decode(asked.prompt)
    assert text == "(user) Start 30?<end>(assistant) Yes 30.<end>(user) More?<end>(assistant) "
    assert loaded.tokenizer.decode(asked.reference) == "No.<end>"


def test_weights_and_turns_are_part_of_the_fingerprint(chats):
    train_set = load_any_task(str(chats)).splits["train"]
    lines = (chats / "train.jsonl").read_text()
    (chats / "train.jsonl").write_text(lines.replace('"weight": 2', '"weight": 1', 1))
    changed = load_any_task(str(chats)).splits["train"]
    assert fingerprint_of(train_set) != fingerprint_of(changed)
    assert fingerprint_of(changed) == fingerprint_of(load_any_task(str(chats)).splits["train"])


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_without_any_weight_is_refused(model, chats, tmp_path, split):
    write(chats / f"{split}.jsonl", [talk(n, weight=0) for n in range(40, 44)])
    with pytest.raises(UserError, match=f"all 4 {split} examples have weight 0"):
        train(config(model, chats), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_contamination_is_said_and_written_when_training_starts(model, tmp_path, capsys):
    data = write_sums(tmp_path / "sums", train=12, validation=4, test=4)
    long = "Anna has seven green apples and gives two of them to her brother Tom today"
    for split, place in (("train", "Paris"), ("test", "Rome")):
        rows = (data / f"{split}.jsonl").read_text().splitlines()
        rows.append(json.dumps({"prompt": f"In {place}: {long}?", "completion": "5", "answer": 5}))
        (data / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    run = train(config(model, data, template="qa"), tmp_path / "run")
    written = json.loads(run.contamination_path.read_text())
    assert {split: one["overlapping"] for split, one in written.items()} == {
        "validation": 0,
        "test": 1,
    }
    (worst,) = written["test"]["worst"]
    assert worst["where"].endswith("test.jsonl:5") and worst["train_where"].endswith(
        "train.jsonl:13"
    )
    assert "test 1 of 5 (8-grams; 1 with most of theirs)" in capsys.readouterr().out


def test_a_recipe_is_trained_on_from_a_local_copy(model, tmp_path, capsys):
    row = {"answer": "So <<1+1=2>>2.\n#### 2"}
    write(tmp_path / "gsm.jsonl", [row | {"question": f"Sum {n}?"} for n in range(120)])
    with (tmp_path / "gsm.jsonl").open("a") as lines:
        lines.write(json.dumps(row | {"question": "Sum 1?"}) + "\n")
    data = f"gsm8k:{tmp_path / 'gsm.jsonl'}"
    run = train(config(model, data), tmp_path / "run")
    assert (run.config()["data"], run.config()["template"]) == (data, "qa")
    assert "gsm8k: left out 1 duplicates" in capsys.readouterr().out
    asked = pose_data(run.config()["data"], 3)
    assert asked.label == "gsm8k/test" and asked.questions[0].gold == "2"


def test_tokens_of_large_splits_are_kept_and_not_made_again(model, chats, tmp_path, monkeypatch):
    monkeypatch.setenv("LORAFUSE_CACHE", str(tmp_path / "cache"))
    load_inputs(config(model, chats))
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(module, "CACHED_FROM", 100)
    _, fresh = load_inputs(config(model, chats))
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 2
    monkeypatch.setattr(encode, "encode_all", lambda *a: pytest.fail("tokenised again"))
    _, kept = load_inputs(config(model, chats))
    for one, other in zip(fresh.train, kept.train, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()


def test_a_task_that_asks_for_the_chat_template_needs_one(chats, tmp_path):
    plain = write_tiny_model(tmp_path / "plain")
    with pytest.raises(UserError, match=r"train\.jsonl:1: a chat of 4 turns"):
        load_inputs(config(plain, chats))
    (chats / "task.json").write_text(json.dumps({"template": "chat"}))
    with pytest.raises(UserError, match="has no chat template"):
        load_inputs(config(plain, chats))
    (chats / "task.json").write_text(json.dumps({"template": "chatt"}))
    with pytest.raises(UserError, match="no template 'chatt'"):
        load_inputs(config(plain, chats))
