"""Chats under a tokenizer's template, against transformers' own mask of assistant tokens."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from lorafuse_jax.assets import fetch
from lorafuse_jax.data.encode import encode, encode_split
from lorafuse_jax.data.rows import Example, Turn, example_from_row
from lorafuse_jax.types import UserError
from tests.tiny import tiny_tokenizer

LOOP = "{%- for m in messages %}"
ASKS = "{%- if add_generation_prompt %}<a>assistant\n{% endif %}"
CHATML = LOOP + "<a>{{ m.role }}\n{{ m.content }}<z>\n{% endfor %}" + ASKS
WITH_MASK = (
    LOOP + "<a>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<z>{% endgeneration %}{% else %}{{ m.content }}<z>{% endif %}"
    "{{ '\\n' }}{% endfor %}" + ASKS
)
THINKS = (
    LOOP + "<a>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}(think)\n{% endif %}"
    "{{ m.content }}<z>\n{% endfor %}" + ASKS
)
SAYS = "{% if add_generation_prompt %}assistant: {% endif %}"
UNENDED = LOOP + "{{ m.role }}: {{ m.content }}\n{% endfor %}" + SAYS
INCONSISTENT = LOOP + "{% if loop.last %}(last) {% endif %}" + CHATML.removeprefix(LOOP)
SHOUTS = CHATML.replace("m.content", "m.content | upper")
REFUSES = (
    LOOP
    + "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + ("{{ m.content }}<z>{% endfor %}")
)


def tokenizer_with(template):
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<a>", "<z>"]})
    tokenizer.chat_template = template
    return tokenizer


def talk(*contents, system=None, weight=1.0):
    roles = ("user", "assistant") * len(contents)
    turns = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]
    if system:
        turns.insert(0, {"role": "system", "content": system})
    return example_from_row({"messages": turns, "weight": weight}, "talks.jsonl:3", "3")


def learnt(one, tokenizer):
    """The texts that have a loss, stretch by stretch."""
    has_loss = np.concatenate([[0], one.loss_weight > 0, [0]])
    edges = np.flatnonzero(np.diff(has_loss))
    stretches = zip(edges[::2], edges[1::2], strict=True)
    return [tokenizer.decode(one.tokens[a:b]) for a, b in stretches]


def messages_of(example):
    return [turn._asdict() for turn in example.chat]


def check_as_generated(example, one, tokenizer):
    """Before every answer stand the tokens that generating at that point would see."""
    starts = np.flatnonzero(np.diff((one.loss_weight > 0).astype(int)) == 1) + 1
    answers = [n for n, turn in enumerate(example.chat) if turn.role == "assistant"]
    for start, number in zip(starts, answers, strict=True):
        ids = tokenizer.apply_chat_template(
            messages_of(example)[:number], add_generation_prompt=True, return_dict=False
        )
        assert one.tokens[:start].tolist() == ids


def test_every_answer_and_its_end_has_a_loss_and_nothing_else():
    tokenizer = tokenizer_with(CHATML)
    example = talk("One?", "Yes.", "Yes.", "Yes.", "Sure?", "No", system="Yes.")
    one = encode(example, tokenizer, "chat")
    assert learnt(one, tokenizer) == ["Yes.<z>", "Yes.<z>", "No<z>"]
    assert tokenizer.decode(one.completion) == "No<z>"
    assert tokenizer.decode(one.prompt).endswith("Sure?<z>\n<a>assistant\n")
    check_as_generated(example, one, tokenizer)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_mask_and_tokens_equal_those_of_transformers(count):
    tokenizer = tokenizer_with(WITH_MASK)
    example = talk(*["What?", "That is so.", "And?", "No!", "Why?", "z"][: 2 * count], system="Hm")
    one = encode(example, tokenizer, "chat")
    theirs = tokenizer.apply_chat_template(
        messages_of(example), return_dict=True, return_assistant_tokens_mask=True
    )
    length = one.length  # theirs goes on with the line end after the last turn
    assert one.tokens.tolist() == theirs["input_ids"][:length]
    assert (one.loss_weight > 0).astype(int).tolist() == theirs["assistant_masks"][:length]
    assert theirs["assistant_masks"][length:] == [0]


def test_prompt_and_completion_are_encoded_as_the_chat_of_two_turns():
    tokenizer = tokenizer_with(CHATML)
    as_pair = encode(Example("3", "Hi?", "Ho.", None, "f:1"), tokenizer, "chat")
    as_chat = encode(talk("Hi?", "Ho."), tokenizer, "chat")
    for mine, other in zip(as_pair, as_chat, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_what_a_template_puts_before_the_answer_is_learnt_where_generation_has_to_write_it():
    tokenizer = tokenizer_with(THINKS)
    example = talk("One?", "think", "Two?", "(think)\nagain")
    one = encode(example, tokenizer, "chat")
    assert learnt(one, tokenizer) == ["think<z>", "(think)\n(think)\nagain<z>"]
    check_as_generated(example, one, tokenizer)


def test_a_template_without_end_token_gets_the_end_of_text_for_one_answer_and_is_refused_for_two():
    tokenizer = tokenizer_with(UNENDED)
    one = encode(talk("Hi?", "Ho."), tokenizer, "chat")
    assert learnt(one, tokenizer) == ["Ho.<end>"]
    with pytest.raises(UserError, match=r"talks\.jsonl:3: the chat template ends an answer with"):
        encode(talk("Hi?", "Ho.", "Hi!", "Ho!"), tokenizer, "chat")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (INCONSISTENT, r"before turn 3 is not the same .*\(last\) <a>user"),
        (SHOUTS, "changes what turn 3 says: 'Ho.' became 'HO."),
        (REFUSES, r"refuses it \(no system role\)"),
        ("{{ messages[0].nothing.at.all }}", "refuses it"),
    ],
)
def test_templates_that_do_not_fit_are_refused_with_file_and_line(template, message):
    with pytest.raises(UserError, match=rf"talks\.jsonl:3: .*{message}"):
        encode(talk("Hi?", "Ho.", system="S"), tokenizer_with(template), "chat")


def test_tokens_that_straddle_the_beginning_of_an_answer_are_cut_there():
    """A tokenizer that would merge the prompt's last letters with the answer's first."""
    tokenizer = _merging_tokenizer()
    tokenizer.chat_template = (
        LOOP + "{{ m.content }}{% if m.role == 'assistant' %}<z>{% else %}b{% endif %}{% endfor %}"
    )
    example = talk("a", "c")
    one = encode(example, tokenizer, "chat")
    assert tokenizer.convert_ids_to_tokens(one.tokens) == ["a", "b", "c", "<z>"]
    assert one.answer_start == 2
    whole = tokenizer("abc<z>", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(whole) == ["a", "bc", "<z>"]
    check_as_generated(example, one, tokenizer)


def _merging_tokenizer():
    from tokenizers import Tokenizer, models  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    vocabulary = {"<z>": 0, "a": 1, "b": 2, "c": 3, "bc": 4}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocabulary, [("b", "c")])), eos_token="<z>"
    )


def test_chats_of_many_turns_need_the_chat_template():
    two = talk("Hi?", "Ho.")
    assert tiny_tokenizer().decode(encode(two, tiny_tokenizer(), "qa").prompt).endswith("Answer:")
    with pytest.raises(UserError, match=r"talks\.jsonl:3: a chat of 4 turns .*--template chat"):
        encode(talk("Hi?", "Ho.", "Hi!", "Ho!"), tiny_tokenizer(), "qa")


@pytest.mark.parametrize("template", ["qa", "chat"])
def test_weight_is_that_of_every_loss_and_zero_leaves_none(template):
    tokenizer = tokenizer_with(CHATML)
    plain = encode(talk("Hi?", "Ho."), tokenizer, template)
    half = encode(talk("Hi?", "Ho.", weight=0.5), tokenizer, template)
    none = encode(talk("Hi?", "Ho.", weight=0), tokenizer, template)
    np.testing.assert_array_equal(half.loss_weight, 0.5 * plain.loss_weight)
    assert plain.num_losses == len(plain.completion) and none.num_losses == 0
    np.testing.assert_array_equal(none.completion, plain.completion)


def test_overlong_chats_are_counted_whole():
    tokenizer = tokenizer_with(CHATML)
    some = [talk("Hi?", "Ho."), talk("Hi?", "Ho.", "x" * 50, "y")]
    with pytest.raises(UserError, match=r"1 of 2 .*talks\.jsonl:3, has \d+"):
        encode_split(some, tokenizer, "chat", max_length=60)
    assert encode_split(some, tokenizer, "chat", max_length=60, overlong="drop").dropped == 1


@pytest.mark.real
def test_real_chats_are_tokenised_as_their_template_says():
    tokenizer = AutoTokenizer.from_pretrained(fetch("smollm2-135m-instruct"))
    example = talk("How much is 12+30?", "42.", "Thanks!", "Welcome,\n\nbye", system="Be brief.")
    one = encode(example, tokenizer, "chat")
    whole = tokenizer.apply_chat_template(messages_of(example), return_dict=False)
    assert one.tokens.tolist() == whole[: one.length]
    assert tokenizer.decode(whole[one.length :]) == "\n"
    assert learnt(one, tokenizer) == ["42.<|im_end|>", "Welcome,\n\nbye<|im_end|>"]
    check_as_generated(example, one, tokenizer)
    assert Turn("system", "Be brief.") == example.turns[0]
