"""A candidate of the Hugging Face Hub.

A fixed commit, safetensors only, from the cache without a network.
"""

import sys

import pytest

from harness.base.errors import PackageError, UnusableModelError
from harness.cli import main
from harness.inference.predictors.hub import hub_file
from harness.inference.predictors.kinds import model_spec

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SPEC = f"hf:team/model@{COMMIT}:weights/model.safetensors"


@pytest.fixture(autouse=True)
def forgotten():
    hub_file.cache_clear()
    yield
    hub_file.cache_clear()


def test_a_cached_file_needs_no_network(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    place = tmp_path / f"models--team--model/snapshots/{COMMIT}/weights/model.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"weights")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a network is asked"))
    assert model_spec(SPEC) == place


def test_what_cannot_be_fetched_is_said(zoo, tmp_path, monkeypatch, capsys):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(["evaluate", SPEC, "--data", zoo.data]) == 2
    said = f"[MODEL] {SPEC}: cannot be fetched ("
    assert said in capsys.readouterr().err
    assert zoo.run("--candidate", SPEC).ret == 4
    assert [said in error for error in zoo.report()["errors"]] == [True]


@pytest.mark.parametrize(
    "spec",
    [
        "hf:team/model:model.safetensors",
        "hf:team/model@main:model.safetensors",
        f"hf:team/model@{COMMIT[:12]}:model.safetensors",
        f"hf:team/model@{COMMIT}:model.bin",
        f"hf:team/model@{COMMIT}:model.pth",
        "hf:",
    ],
)
def test_another_form_is_refused(spec):
    with pytest.raises(UnusableModelError, match="expected hf:REPOSITORY@COMMIT:FILE"):
        model_spec(spec)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(PackageError, match=r"pip install 'stress-harness\[hub\]'"):
        model_spec(SPEC)
