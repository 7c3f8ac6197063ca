"""``lorafuse fuse`` on PEFT folders, through the command line."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax import cli
from lorafuse_jax.adapter import compress, stack, to_delta
from lorafuse_jax.formats import load_adapter, load_peft, read_provenance
from lorafuse_jax.fusion import get_operator
from lorafuse_jax.types import LoraPair
from tests.formats.families import build, different, load, logits, train
from tests.fusion.members import assert_same, dense


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["lorafuse", *map(str, words)])
    cli.main()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three GPT-2 adapters of different rank and alpha, from PEFT."""
    root = tmp_path_factory.mktemp("peft")
    settings = ({"r": 4, "lora_alpha": 4}, {"r": 2, "lora_alpha": 3}, {"r": 3, "use_rslora": True})
    for number, own in enumerate(settings):
        train("gpt2", seed=number, **own).save_pretrained(root / f"member-{number}")
    return sorted(root.iterdir())


def fuse(monkeypatch, folders, out, *words):
    command(monkeypatch, "fuse", *folders, "--out", out, *words)


def test_mean_of_peft_folders_is_what_peft_computes_with_the_mean_delta(
    folders, monkeypatch, tmp_path, capsys
):
    fuse(monkeypatch, folders, tmp_path / "out", "--operator", "concat")
    assert "3 members fused" in capsys.readouterr().out
    model = build("gpt2")
    members = [load_peft(folder) for folder in folders]
    for module in members[0]:
        for layer in range(3):
            name = module.replace("*", str(layer)).replace("/", ".")
            deltas = [m[module][0][layer] @ m[module][1][layer] for m in members]
            weight = model.get_submodule(name).weight
            weight.data += weight.data.new_tensor(np.mean(np.array(deltas), axis=0))
    ours = logits(load("gpt2", tmp_path / "out"))
    np.testing.assert_allclose(ours, logits(model), atol=1e-4)
    assert different(ours, logits(build("gpt2")))


@pytest.mark.parametrize(
    ("words", "operator", "settings", "rank"),
    [
        (("--operator", "ties", "--set", "density=0.4"), "ties", {"density": 0.4}, None),
        (
            ("--operator", "ties", "--set", "density=0.4", "--rank", "3"),
            "ties",
            {"density": 0.4},
            3,
        ),
        (("--operator", "karcher", "--rank", "2"), "karcher", {}, 2),
        (("--operator", "knots:ties"), "knots:ties", {}, None),
    ],
    ids=lambda words: "-".join(words) if isinstance(words, tuple) else "",
)
def test_result_is_the_operators_on_the_stacked_members(
    words, operator, settings, rank, folders, monkeypatch, tmp_path, capsys
):
    fuse(monkeypatch, folders, tmp_path / "out", *words)
    expected = get_operator(operator)(stack([load_peft(f) for f in folders]), **settings)
    if rank is not None:
        kept = compress(expected, rank)
        share = np.sqrt(
            sum((d**2).sum() for d in dense(kept).values())
            / sum((d**2).sum() for d in dense(to_delta(expected)).values())
        )
        assert f"rank {rank} keeps {share:.1%} of the norm" in capsys.readouterr().out
        expected = kept
        assert json.loads((tmp_path / "out/adapter_config.json").read_text())["r"] == rank
    assert_same(to_delta(load_adapter(tmp_path / "out")), to_delta(expected), 1e-4)


def test_weights_are_of_the_members_in_order(folders, monkeypatch, tmp_path):
    words = ("--operator", "mean", "--weights", "0", "1", "0")
    fuse(monkeypatch, folders, tmp_path / "out", *words)
    found, expected = load_peft(tmp_path / "out"), load_peft(folders[1])
    assert_same(found, expected, 1e-6)


def test_same_inputs_give_the_same_bytes_anywhere(folders, monkeypatch, tmp_path):
    for out in ("a", "b"):
        fuse(
            monkeypatch, folders, tmp_path / out, "--operator", "dare", "--key", "5", "--rank", "4"
        )
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_result_says_what_it_was_made_of(folders, monkeypatch, tmp_path, capsys):
    words = ("--operator", "dare_ties", "--set", "drop=0.3", "--key", "7", "--rank", "2")
    fuse(monkeypatch, folders, tmp_path / "out", *words)
    told = read_provenance(tmp_path / "out")
    assert told["operator"] == "dare_ties"
    assert told["hyperparameters"]["drop"] == 0.3
    assert (told["key_seed"], told["rank"], told["weights"]) == (7, 2, None)
    assert [member["name"] for member in told["members"]] == ["member-0", "member-1", "member-2"]
    assert all(len(member["sha256"]) == 64 for member in told["members"])
    assert told["versions"].keys() >= {"jax", "lorafuse-jax"}
    fuse(monkeypatch, folders, tmp_path / "out", *words)
    assert "fused already" in capsys.readouterr().out


def test_padded_result_has_a_rank_that_can_be_served(folders, monkeypatch, tmp_path):
    fuse(monkeypatch, folders, tmp_path / "out", "--operator", "mean", "--pad-rank")
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["r"] == 16
    plain, padded = (
        get_operator("mean")(stack([load_peft(f) for f in folders])),
        load_peft(tmp_path / "out"),
    )
    assert_same(padded, plain, 1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--operator", "mean", "--weights", "1", "2"), "there are 2 weights and 3 members"),
        (("--operator", "ties", "--pad-rank"), "dense result: --pad-rank needs --rank"),
        (("--operator", "fisher"), "fisher needs Fisher information"),
        (("--operator", "slerp"), "slerp fuses 2 members at most, not 3"),
        (("--operator", "ties", "--set", "density=2"), "ties: density = 2 is not possible"),
        (("--operator", "mean", "--rank", "0"), "--rank 0 is not possible"),
        (("--operator", "meen"), "did you mean mean"),
    ],
)
def test_request_that_cannot_be_met_says_why_and_writes_nothing(
    words, message, folders, monkeypatch, tmp_path, capsys
):
    with pytest.raises(SystemExit, match="2"):
        fuse(monkeypatch, folders, tmp_path / "out", *words)
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_output_that_holds_something_is_refused_before_anything_is_computed(
    folders, monkeypatch, tmp_path, capsys
):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        fuse(monkeypatch, folders, tmp_path, "--operator", "mean")
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("count", "message"), [(1, "has nothing to be fused with"), (3, "--out is needed")]
)
def test_too_little_to_go_on_is_said(count, message, folders, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        command(monkeypatch, "fuse", *folders[:count], "--operator", "mean")
    assert message in capsys.readouterr().err


def test_result_that_is_not_finite_is_not_written(folders, monkeypatch, tmp_path, capsys):
    huge = jnp.float32(3e38)
    words = ("--operator", "task_arithmetic", "--set", f"factor={huge}")
    with pytest.raises(SystemExit, match="2"):
        fuse(monkeypatch, folders, tmp_path / "out", *words)
    assert "is not finite" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_results_of_low_rank_are_pairs(folders, monkeypatch, tmp_path):
    fuse(monkeypatch, folders, tmp_path / "out", "--operator", "svd", "--set", "rank=2")
    assert all(isinstance(update, LoraPair) for update in load_adapter(tmp_path / "out").values())
