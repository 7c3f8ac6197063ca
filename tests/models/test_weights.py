"""What a damaged or foreign checkpoint gets: one clear error."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorafuse_jax.models.hub import fingerprint, load_model
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


def test_whole_folder_loads(folder):
    model = load_model(folder)
    assert model.config == tiny_config(vocab_size=len(model.tokenizer))
    assert model.params["layers"]["mlp"]["up_proj"]["kernel"].shape == (2, 16, 24)


NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NAME), rf"lacks 1 tensors, the first is {NAME}"),
        (lambda t: t.update(extra=t[NAME]), "tensor extra is not a part of this model"),
        (lambda t: t.update({NAME: t[NAME].T.copy()}), rf"{NAME} has shape \[16, 24\]"),
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


def test_tied_head_equal_to_the_embedding_is_accepted(folder):
    def add(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    change_tensors(folder, add)
    load_model(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, -7])
def test_truncated_weights_raise(folder, kept):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match="damaged or cut short"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, "'mamba' is not supported; supported are llama"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported"),
        ({"sliding_window": 64}, "sliding_window = 64"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope type 'yarn'"),
        ({"pretraining_tp": 2}, "pretraining_tp"),
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
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="names model-00001-of-00002"):
        load_model(folder)


def test_fingerprint_follows_the_weights(folder, tmp_path):
    other = write_tiny_model(tmp_path / "other", seed=9)
    again = write_tiny_model(tmp_path / "again")
    assert fingerprint(folder) == fingerprint(again) != fingerprint(other)
    change_tensors(again, lambda t: t.update({NAME: t[NAME] + np.float32(1e-3)}))
    assert fingerprint(folder) != fingerprint(again)
