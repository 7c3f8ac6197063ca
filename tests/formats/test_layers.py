"""Module names of any model, and the paths that stand for them."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lorafuse_jax.formats.layers import hf_name, hf_pattern, parse_hf_name


@pytest.mark.parametrize(
    ("name", "module", "layer"),
    [
        ("model.layers.3.self_attn.q_proj", "layers/self_attn/q_proj", 3),
        ("transformer.h.11.attn.c_attn", "transformer/h/*/attn/c_attn", 11),
        ("model.layers.0.mlp.experts.7.w1", "layers/mlp/experts/7/w1", 0),
        ("lm_head", "lm_head", 0),
        ("vision.blocks.2.fc-1", "vision/blocks/*/fc-1", 2),
        ("layers.3.self_attn.q_proj", "layers/*/self_attn/q_proj", 3),
        ("layers.0.layers.1.fc", "layers/*/layers/1/fc", 0),
        ("model.layers.2", "model/layers/*", 2),
    ],
)
def test_module_names_of_other_models_have_paths(name, module, layer):
    assert parse_hf_name(name) == (module, layer)
    assert hf_name(module, layer) == name


parts = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True) | st.sampled_from(
    ["model", "layers"]
)


@given(st.lists(parts | st.integers(0, 99).map(str), max_size=6).map(lambda p: [*p, "end"]))
def test_module_names_come_back(pieces):
    name = ".".join(pieces)
    where = parse_hf_name(name)
    assume(name.partition(".")[0] != "layers" or where is not None)
    assert where is not None
    assert hf_name(*where) == name
    assert re.fullmatch(hf_pattern(where.module), name)


@pytest.mark.parametrize("name", ["", ".", "7", "a..b", "a.b.", "a b", "a/b", "layers.x"])
def test_text_that_is_no_name_has_no_path(name):
    assert parse_hf_name(name) is None
