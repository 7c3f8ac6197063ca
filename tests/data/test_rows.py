"""Rows of files, and the examples they become; every fault names file and line."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorafuse_jax.data.examples import load_task, read_examples
from lorafuse_jax.data.rows import Turn
from lorafuse_jax.types import UserError

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi?"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": " Bye. "},
]
GOOD = {"prompt": "a?", "completion": "b"}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chat(*turns):
    return {"messages": [dict(zip(("role", "content"), turn, strict=True)) for turn in turns]}


def test_both_forms_may_stand_in_one_file(tmp_path):
    talk = {"messages": CHAT, "weight": 0, "answer": 7, "group": 3, "source": "x"}
    rows = [GOOD | {"weight": 0.5}, talk]
    plain, talk = read_examples(write(tmp_path / "data.jsonl", rows))
    assert (plain.weight, plain.turns, plain.group) == (0.5, (), "")
    assert talk.group == "3"
    assert plain.chat == (Turn("user", "a?"), Turn("assistant", "b"))
    assert talk.turns[0] == Turn("system", "Be brief.") and talk.turns[-1].content == "Bye."
    assert (talk.weight, talk.answer, talk.completion) == (0, "7", "Bye.")
    assert talk.prompt == "Be brief.\n\nHi?\n\nHello.\n\nAnd now?"
    assert talk.opening == "Be brief.\n\nHi?"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": []}, "must be a list of turns"),
        ({"messages": "hello"}, "must be a list of turns"),
        ({"messages": ["hello"]}, "turn 1: must be an object"),
        (chat(("user", "a")), "no assistant turn"),
        (chat(("user", "a"), ("assistant", "b"), ("user", "c")), "the last turn is the user's"),
        (chat(("assistant", "b")), "begins with an answer"),
        (chat(("user", "a"), ("system", "x"), ("assistant", "b")), "turn 2: a system turn can"),
        (chat(("human", "a"), ("gpt", "b")), "turn 1: the role must be system, user, assist"),
        ({"messages": [{"from": "human", "value": "a"}]}, r"it is None \(its keys are from, value"),
        (chat(("user", "a"), ("assistant", "  ")), "turn 2: 'content' must be text"),
        (chat(("user", ["a"]), ("assistant", "b")), "turn 1: 'content' must be text"),
        ({"messages": [*CHAT[:-1], CHAT[-1] | {"weight": 0}]}, "turn 5: 'weight' is not supp"),
        ({"messages": [*CHAT[:-1], CHAT[-1] | {"tool_calls": [1]}]}, "turn 5: 'tool_calls' is no"),
        ({"messages": CHAT, "prompt": "a"}, "has both 'messages' and 'prompt'"),
        ({"messages": CHAT, "completion": "a"}, "has both 'messages' and 'completion'"),
        (GOOD | {"weight": -1}, "'weight' must be a number from 0"),
        (GOOD | {"weight": float("nan")}, "'weight' must be a number from 0 upwards, it is nan"),
        (GOOD | {"weight": float("inf")}, "'weight' must be"),
        (GOOD | {"weight": True}, "'weight' must be"),
        (GOOD | {"weight": "2"}, "'weight' must be"),
    ],
)
def test_a_faulty_row_names_file_and_line(tmp_path, row, message):
    path = write(tmp_path / "data.jsonl", [GOOD, row])
    with pytest.raises(UserError, match=rf"data\.jsonl:2.*{message}"):
        read_examples(path)


def test_parquet_gives_the_same_examples_as_jsonl(tmp_path):
    rows = [GOOD | {"weight": 2.0}, {"messages": CHAT}, GOOD | {"answer": "7"}]
    write(tmp_path / "data.jsonl", rows)
    columns = {key: [row.get(key) for row in rows] for key in {k for row in rows for k in row}}
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    plain = lambda one: (one.id, one.prompt, one.completion, one.answer, one.weight, one.turns)  # noqa: E731
    lines, table = (read_examples(tmp_path / f"data.{kind}") for kind in ("jsonl", "parquet"))
    # A Parquet row has all columns of the file, and null where it has nothing.
    assert [plain(one) for one in lines] == [plain(one) for one in table]
    assert table[1].where.endswith("data.parquet, row 2")


def test_parquet_without_the_column_or_damaged_is_named(tmp_path):
    pq.write_table(pa.Table.from_pylist([{"prompt": "a", "text": "b"}]), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet, row 1: no 'completion'; .*prompt, text"):
        read_examples(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for number, content in enumerate((whole[:-20], b"", b"PAR1" + b"x" * 50 + b"PAR1")):
        (tmp_path / f"b{number}.parquet").write_bytes(content)
        with pytest.raises(UserError, match=rf"b{number}\.parquet: a damaged Parquet file"):
            read_examples(tmp_path / f"b{number}.parquet")


def test_json_array_is_read_and_names_its_entries(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([GOOD, GOOD | {"prompt": "c"}], indent=2))
    assert [one.prompt for one in read_examples(path)] == ["a?", "c"]
    path.write_text(json.dumps([GOOD, {}]))
    with pytest.raises(UserError, match=r"data\.json, entry 2: no 'prompt'"):
        read_examples(path)
    path.write_text("[{]")
    with pytest.raises(UserError, match=r"data\.json: not JSON"):
        read_examples(path)


def test_folder_takes_either_kind_and_refuses_a_split_twice(tmp_path):
    write(tmp_path / "train.jsonl", [GOOD])
    pq.write_table(pa.Table.from_pylist([GOOD | {"prompt": "c"}]), tmp_path / "test.parquet")
    task = load_task(tmp_path)
    assert [task.splits[split][0].prompt for split in ("train", "test")] == ["a?", "c"]
    write(tmp_path / "test.jsonl", [GOOD])
    with pytest.raises(UserError, match=r"test\.jsonl and test\.parquet are the same split"):
        load_task(tmp_path)


def test_chats_that_begin_alike_fall_into_the_same_split(tmp_path):
    rows = []
    for number in range(200):
        first = [("user", f"Topic {number}?"), ("assistant", "Yes.")]
        more = [*first, ("user", "More?"), ("assistant", "No.")]
        rows += [chat(*first), chat(*more), chat(*more)]
    task = load_task(write(tmp_path / "chats.jsonl", rows))
    assert task.left_out == {"duplicates": 200}
    sides = {}
    for split, examples in task.splits.items():
        for one in examples:
            sides.setdefault(one.opening, set()).add(split)
    assert len(sides) == 200 and all(len(side) == 1 for side in sides.values())
    assert set().union(*sides.values()) == {"train", "validation", "test"}
