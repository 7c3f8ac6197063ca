"""Tokenised data is kept by its content, and anything that changes it gives another entry."""

import json

import numpy as np
import pytest
from tokenizers import normalizers

from lorafuse_jax.data import encode as encode_module
from lorafuse_jax.data import templates, token_cache
from lorafuse_jax.data.encode import encode_split
from lorafuse_jax.data.rows import Example, Turn
from lorafuse_jax.types import UserError
from tests.tiny import tiny_tokenizer

TURNS = (Turn("user", "Hi?"), Turn("assistant", "Ho."), Turn("user", "x"), Turn("assistant", "y"))
TEMPLATE = "{% for m in messages %}{{ m.content }}<end>{% endfor %}"


def examples(**changes):
    settings = {"weight": 0.5} | changes
    return [
        Example("a", "One?", "Yes.", None, "f:1"),
        Example("b", "Two?", "No.", None, "f:2", **settings),
    ]


def tokenizer_with(template=TEMPLATE):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def encoded(cache, some=None, tokenizer=None, template="qa", **changes):
    settings = {"max_length": 200} | changes
    some = examples() if some is None else some
    return encode_split(some, tokenizer or tokenizer_with(), template, cache=cache, **settings)


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def check_equal(left, right):
    assert left.dropped == right.dropped
    for mine, other in zip(left.examples, right.examples, strict=True):
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.fixture
def no_tokenising(monkeypatch):
    def forbid():
        monkeypatch.setattr(encode_module, "encode_all", lambda *a: pytest.fail("tokenised again"))

    return forbid


@pytest.mark.parametrize("template", ["qa", "chat"])
def test_second_load_does_not_tokenise_and_is_equal(tmp_path, no_tokenising, template):
    some = examples() if template == "qa" else [*examples(), *examples(turns=TURNS)[1:]]
    fresh = encoded(tmp_path, some, template=template)
    check_equal(fresh, encoded(None, some, template=template))
    assert len(entries(tmp_path)) == 1
    no_tokenising()
    check_equal(encoded(tmp_path, some, template=template), fresh)


def test_whatever_changes_the_tokens_gives_another_entry(tmp_path, monkeypatch):
    encoded(tmp_path)
    lower = tokenizer_with()
    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    variants = [
        {"some": examples(weight=1.0)},
        {"some": examples()[:1]},
        {"some": [examples()[0], Example("b", "Two!", "No.", None, "f:2", weight=0.5)]},
        {"tokenizer": lower},
        {"tokenizer": tokenizer_with(TEMPLATE + " ")},
        {"template": "alpaca"},
        {"template": "chat"},
        {"max_length": 199},
    ]
    for number, variant in enumerate(variants, start=2):
        encoded(tmp_path, **variant)
        assert len(entries(tmp_path)) == number, variant
    monkeypatch.setitem(templates.TEXT_TEMPLATES, "qa", lambda p, c: (f"Q: {p}", c))
    check_equal(encoded(tmp_path), encoded(None))
    assert len(entries(tmp_path)) == len(variants) + 2


def test_where_an_example_stood_does_not_matter(tmp_path, no_tokenising):
    encoded(tmp_path)
    no_tokenising()
    moved = [
        Example(f"new-{one.id}", one.prompt, one.completion, None, "g:9", one.weight)
        for one in examples()
    ]
    assert [one.id for one in encoded(tmp_path, moved).examples] == ["new-a", "new-b"]


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "swapped"])
def test_damaged_entry_is_noticed_and_made_anew(tmp_path, damage, no_tokenising):
    fresh = encoded(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    other = whole[: token_cache.DIGEST_BYTES] + json.dumps({}).encode()
    path.write_bytes(
        {"flipped": bytes(flipped), "short": whole[:-4], "empty": b"", "swapped": other}[damage]
    )
    check_equal(encoded(tmp_path), fresh)
    assert path.read_bytes() == whole and entries(tmp_path) == [path.name]
    no_tokenising()
    check_equal(encoded(tmp_path), fresh)


def test_dropped_examples_stay_dropped_and_still_raise_where_that_is_asked(tmp_path):
    some = [*examples(), Example("c", "x" * 300, "Long.", None, "f:3")]
    dropped = encoded(tmp_path, some, overlong="drop")
    check_equal(encoded(tmp_path, some, overlong="drop"), dropped)
    assert dropped.dropped == 1
    with pytest.raises(UserError, match="f:3, has"):
        encoded(tmp_path, some, overlong="error")


def test_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    check_equal(encoded(tmp_path / "file"), encoded(None))
