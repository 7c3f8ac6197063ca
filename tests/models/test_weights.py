"""What a damaged or foreign checkpoint gets: one clear error."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorafuse_jax.models import hub
from lorafuse_jax.models.families.llama import WEIGHTS
from lorafuse_jax.models.hub import fingerprint, load_model
from lorafuse_jax.models.safetensors_folder import stored_tensors
from lorafuse_jax.models.weights import load_params
from lorafuse_jax.types import UserError
from tests.tiny import tiny_config, write_tiny_model


@pytest.fixture
def folder(tmp_path):
    return write_tiny_model(tmp_path / "model")


def change_tensors(folder, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def change_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def write_index(folder, **tensor_files):
    text = json.dumps({"weight_map": tensor_files})
    (folder / "model.safetensors.index.json").write_text(text)


def test_whole_folder_loads(folder):
    model = load_model(folder)
    assert model.config == tiny_config(vocab_size=len(model.tokenizer))
    assert model.params["layers"]["mlp"]["up_proj"]["kernel"].shape == (2, 16, 24)


EMBEDDING = "model.embed_tokens.weight"
NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NAME), rf"lacks 1 tensors, the first is {NAME}"),
        (lambda t: t.update(extra=t[NAME]), "tensor extra is not a part of this model"),
        (lambda t: t.update({NAME: t[NAME].T.copy()}), rf"{NAME} has shape \[16, 24\]"),
        (lambda t: t.update({NAME: t[NAME].astype(np.int8)}), rf"{NAME} is stored as I8"),
        (
            lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] + 1}),
            "ties the head to the embedding, but lm_head.weight differs",
        ),
    ],
)
def test_tensors_that_do_not_fit_raise(folder, change, message):
    change_tensors(folder, change)
    with pytest.raises(UserError, match=message):
        load_model(folder)


def test_tied_head_equal_to_the_embedding_and_old_buffers_are_accepted(folder):
    def add(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(2, np.float32)

    change_tensors(folder, add)
    load_model(folder)


@pytest.mark.parametrize("stored", [np.float64, np.float16, jnp.bfloat16])
@pytest.mark.parametrize("wanted", [jnp.float32, jnp.bfloat16])
def test_weights_of_any_float_type_are_cast_and_nothing_else(folder, stored, wanted):
    def cast(tensors):
        tensors.update({name: tensor.astype(stored) for name, tensor in tensors.items()})

    change_tensors(folder, cast)
    params = load_params(stored_tensors(folder), tiny_config(), WEIGHTS, wanted, where=folder)
    kernel = params["layers"]["mlp"]["up_proj"]["kernel"][1]
    expected = load_file(folder / "model.safetensors")[NAME].T.astype(wanted)
    assert kernel.dtype == wanted
    np.testing.assert_array_equal(kernel, expected)


@pytest.mark.parametrize("rules", [WEIGHTS[1:], (*WEIGHTS, WEIGHTS[0])])
def test_rules_that_do_not_fill_every_parameter_once_raise(folder, rules):
    with pytest.raises(ValueError, match="the model has"):
        load_params(stored_tensors(folder), tiny_config(), rules, jnp.float32, where=folder)


@pytest.mark.parametrize("kept", [0, 4, 100, -7])
def test_truncated_weights_raise(folder, kept):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match="damaged or cut short"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, "'mamba' is not supported; supported are gemma2"),
        ({"hidden_act": "tanh"}, "hidden_act = 'tanh' is not supported"),
        ({"sliding_window": 64}, "sliding_window = 64"),
        ({"rope_theta": "high"}, r"config\.json is damaged: a value .* \(ValueError: could not"),
        ({"rope_scaling": [8]}, r"config\.json is damaged: a value .* \(AttributeError"),
    ],
)
def test_configuration_that_changes_the_function_is_refused(folder, changes, message):
    change_config(folder, **changes)
    with pytest.raises(UserError, match=message):
        load_model(folder)


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="is no folder with a model"):
        load_model(tmp_path / "nowhere" / "deep" / "down")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="is a pickle, which is never loaded"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"it has no config\.json"):
        load_model(folder)


def test_missing_shard_is_named(folder):
    (folder / "model.safetensors").unlink()
    write_index(folder, a="model-00001-of-00002.safetensors")
    with pytest.raises(UserError, match="names model-00001-of-00002"):
        load_model(folder)


def test_tensor_in_two_shards_raises(folder):
    (folder / "again.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    write_index(folder, a="model.safetensors", b="again.safetensors")
    with pytest.raises(UserError, match="is there twice"):
        load_model(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": []}'])
def test_damaged_index_raises(folder, text):
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match=r"index\.json is damaged"):
        load_model(folder)


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_damaged_configuration_raises(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        load_model(folder)


def test_missing_tokenizer_raises_instead_of_an_empty_one(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="has no tokenizer"):
        load_model(folder)


@pytest.mark.parametrize("text", ["{", '{"version": "1.0"}'])
def test_damaged_tokenizer_raises(folder, text):
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match="cannot load its tokenizer"):
        load_model(folder)


def test_tokenizer_with_code_of_its_own_is_refused_and_not_run(folder, tmp_path):
    trace = tmp_path / "trace"
    (folder / "own.py").write_text(f"open({str(trace)!r}, 'w')\nclass Own: pass\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}})
    )
    with pytest.raises(UserError, match="cannot load its tokenizer"):
        load_model(folder)
    assert not trace.exists()


def test_hub_that_does_not_answer_is_an_error_of_its_own(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(UserError, match=r"no route.*a local folder works"):
        load_model("owner/name")


def test_fingerprint_sees_a_change_in_the_middle_of_a_large_file(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "PIECE", 1 << 6)
    monkeypatch.setattr(hub, "PIECES", 1 << 8)
    (tmp_path / "config.json").write_text("{}")
    layers = {f"layer{n}": np.zeros(1 << 12, np.float32) for n in range(100)}
    save_file(layers, tmp_path / "model.safetensors")
    before = fingerprint(tmp_path)
    layers["layer57"] += 1
    save_file(layers, tmp_path / "model.safetensors")
    assert fingerprint(tmp_path) != before


def test_fingerprint_follows_the_weights(folder, tmp_path):
    other = write_tiny_model(tmp_path / "other", seed=9)
    again = write_tiny_model(tmp_path / "again")
    assert fingerprint(folder) == fingerprint(again) != fingerprint(other)
    change_tensors(again, lambda t: t.update({NAME: t[NAME] + np.float32(1e-3)}))
    assert fingerprint(folder) != fingerprint(again)


def test_the_tokenizer_of_a_larger_model_is_refused(folder, monkeypatch):
    change_config(folder, vocab_size=50)
    change_tensors(folder, lambda t: t.update({EMBEDDING: t[EMBEDDING][:50]}))
    with pytest.raises(UserError, match="has 97 tokens, the model only 50 embeddings"):
        load_model(folder)
