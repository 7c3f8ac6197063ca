import json

import pytest
from tokenizers.processors import TemplateProcessing

from lorafuse_jax.data.encode import encode, encode_split
from lorafuse_jax.data.examples import load_task, normalize, read_examples, split_by_hash
from lorafuse_jax.data.rows import Example
from lorafuse_jax.data.templates import TEMPLATES, TEXT_TEMPLATES
from lorafuse_jax.types import UserError
from tests.tiny import tiny_tokenizer

GOOD = '{"prompt": "a?", "completion": "b"}'


def write(folder, name, lines):
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "not JSON"),
        ("", "line is empty"),
        ("[1]", "must be a JSON object"),
        ('{"prompt": "a"}', "no 'completion'"),
        ('{"prompt": "", "completion": "b"}', "'prompt' must be text"),
        ('{"prompt": "a", "completion": 3}', "'completion' must be text"),
        ('{"prompt": "a", "completion": "b", "answer": [1]}', "'answer' must be"),
        ('{"prompt": "a", "completion": "b", "group": [1]}', "'group' must be"),
    ],
)
def test_malformed_line_names_file_and_line(tmp_path, line, message):
    path = write(tmp_path, "data.jsonl", [GOOD, line, GOOD])
    with pytest.raises(UserError, match=rf"data\.jsonl:2: .*{message}"):
        read_examples(path)


def test_empty_and_missing_files_raise(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="is empty"):
        read_examples(tmp_path / "empty.jsonl")
    with pytest.raises(UserError, match="does not exist"):
        read_examples(tmp_path / "nowhere.jsonl")
    with pytest.raises(UserError, match="neither a JSONL or Parquet file"):
        load_task(tmp_path / "nothing")


def test_not_utf8_names_the_line(tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes(GOOD.encode() + b"\n" + b'{"prompt": "\xe9", "completion": "b"}\n')
    with pytest.raises(UserError, match=r"latin\.jsonl:\d+: not UTF-8"):
        read_examples(path)


def test_single_file_is_split_by_content_without_duplicates(tmp_path):
    rows = [json.dumps({"prompt": f"Question {n}", "completion": "x"}) for n in range(300)]
    task = load_task(write(tmp_path, "own.jsonl", [*rows, *rows[:20]]))
    assert task.left_out == {"duplicates": 20}
    sizes = {split: len(examples) for split, examples in task.splits.items()}
    assert sum(sizes.values()) == 300
    assert 210 < sizes["train"] < 270 and sizes["test"] > 10 and sizes["validation"] > 10
    reordered = load_task(write(tmp_path, "again.jsonl", rows[::-1]))
    assert {e.prompt for e in reordered.splits["test"]} == {e.prompt for e in task.splits["test"]}


def test_folder_with_a_prompt_in_two_splits_names_both_lines(tmp_path):
    write(tmp_path, "train.jsonl", [GOOD, '{"prompt": "How MANY?", "completion": "b"}'])
    write(tmp_path, "test.jsonl", ['{"prompt": "how many", "completion": "b"}'])
    with pytest.raises(UserError, match=r"test\.jsonl:1 .*train\.jsonl:2"):
        load_task(tmp_path)


def test_normalize_ignores_case_punctuation_and_space():
    assert normalize("  How MANY,  apples? ") == normalize("how many apples")
    assert normalize("3 apples") != normalize("4 apples")
    assert split_by_hash("x") == split_by_hash("x")


def example(prompt="What?", completion="That.", where="f:1"):
    return Example("1", prompt, completion, None, where)


@pytest.mark.parametrize("template", TEMPLATES)
def test_completion_ends_with_the_end_token_and_prompt_has_none(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    one = encode(example(), tokenizer, template)
    assert one.completion[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in one.prompt
    assert "That." in tokenizer.decode(one.completion[:-1]) and "What?" in tokenizer.decode(
        one.prompt
    )


def test_a_functions_body_follows_its_beginning_as_in_a_file():
    whole = "".join(TEXT_TEMPLATES["function"]("def f(x):", "x += 1\n    return x"))
    assert whole == "def f(x):\n    x += 1\n    return x"
    tokenizer = tiny_tokenizer()
    one = encode(example("def f(x):", "return x"), tokenizer, "function")
    assert tokenizer.decode(one.tokens[:-1]) == "def f(x):\n    return x"
    assert tokenizer.decode(one.completion[:-1]) == " return x"


def test_the_begin_token_comes_first_where_the_tokenizer_puts_it_before_every_text():
    plain, beginning = tiny_tokenizer(), tiny_tokenizer()
    beginning.add_special_tokens({"bos_token": "<begin>"})
    begin = beginning.bos_token_id
    beginning.backend_tokenizer.post_processor = TemplateProcessing(
        single="<begin> $A", special_tokens=[("<begin>", begin)]
    )
    for template in ("qa", "alpaca"):
        without = encode(example(), plain, template)
        with_begin = encode(example(), beginning, template)
        assert with_begin.prompt.tolist() == [begin, *without.prompt]
        assert with_begin.completion.tolist() == without.completion.tolist()


def test_alpaca_and_metamath_are_the_published_prompts():
    tokenizer = tiny_tokenizer()
    one = encode(example(), tokenizer, "metamath")
    text = tokenizer.decode(one.prompt)
    assert text.startswith("Below is an instruction that describes a task. Write a response that ")
    assert text.endswith("### Instruction:\nWhat?\n\n### Response: Let's think step by step.")


def test_overlong_examples_raise_with_count_and_place_or_are_counted():
    examples = [
        example(),
        example(prompt="x" * 50, where="f:2"),
        example(prompt="x" * 70, where="f:3"),
    ]
    with pytest.raises(UserError, match=r"2 of 3 .*longer than 60 .*f:3, has \d+"):
        encode_split(examples, tiny_tokenizer(), "qa", max_length=60)
    result = encode_split(examples, tiny_tokenizer(), "qa", max_length=60, overlong="drop")
    assert (len(result.examples), result.dropped) == (1, 2)


def test_unknown_template_lists_the_known():
    with pytest.raises(UserError, match="qa, chat"):
        encode(example(), tiny_tokenizer(), "alpacca")
