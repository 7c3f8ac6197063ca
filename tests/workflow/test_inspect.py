"""``lorafuse inspect`` through the command line."""

import json
import sys

import numpy as np
import pytest

from lorafuse_jax import cli
from lorafuse_jax.adapter import cosine, norm
from lorafuse_jax.formats import load_peft
from tests.formats.families import train


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["lorafuse", "inspect", *map(str, words)])
    cli.main()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("peft")
    for number in range(3):
        train("gpt2", seed=number, r=2 + number).save_pretrained(root / f"member-{number}")
    return sorted(root.iterdir())


def test_inspection_shows_and_writes_what_members_have_in_common(
    folders, monkeypatch, tmp_path, capsys
):
    operators = ("mean", "scaled_mean", "ties", "dare")
    command(monkeypatch, *folders, "--out", tmp_path / "out", "--operators", *operators)
    shown = capsys.readouterr().out
    assert len(max(shown.partition("Means over")[0].splitlines(), key=len)) <= 100
    for word in ("transformer/h/*/attn/c_attn", "member-2", "conflicting", *operators):
        assert word in shown
        assert word in (tmp_path / "out" / "inspect.md").read_text()
    numbers = json.loads((tmp_path / "out" / "inspect.json").read_text())
    members = [load_peft(folder) for folder in folders]
    np.testing.assert_allclose(numbers["norms"], [norm(m) for m in members], rtol=1e-4)
    between = cosine(members[0], members[2])
    np.testing.assert_allclose(numbers["cosines"][0][2], between, atol=1e-4)
    assert numbers["norm_after"].keys() == set(operators)
    np.testing.assert_allclose(numbers["norm_after"]["scaled_mean"], 1, rtol=0.05)
    assert numbers["norm_after"]["mean"] < 0.75
    own = numbers["modules"]["transformer/h/*/attn/c_attn"]
    assert np.array(own["fan_in_angles"]).shape == (3, 3, 4)
    shares = [np.array(own[name]) for name in ("robust", "conflicting", "quiet")]
    np.testing.assert_allclose(sum(shares), 1, rtol=1e-5)
    assert (tmp_path / "out" / "inspect.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("count", "words", "message"),
    [
        (1, (), "has nothing to be fused with"),
        (2, ("--operators", "tise"), "did you mean ties"),
        (2, ("--operators", "fisher"), "fisher needs"),
        (3, ("--operators", "mean", "slerp"), "slerp fuses 2 members at most, not 3"),
        (2, ("--out", "."), "is there already"),
    ],
)
def test_inspection_that_cannot_be_made_says_why(
    count, words, message, folders, monkeypatch, capsys
):
    with pytest.raises(SystemExit, match="2"):
        command(monkeypatch, *folders[:count], *words)
    assert message in capsys.readouterr().err
