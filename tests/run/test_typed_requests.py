"""Commands as functions of Python: settings in, frozen results out, nothing printed."""

import numpy as np
import pytest
from zoo import Zoo

from harness.features.comparison.comparison import compare
from harness.features.evaluation.breaking_poses import break_image
from harness.features.evaluation.evaluation import evaluate
from harness.inference import Classifier
from harness.networks.checkpoints import load_checkpoint
from harness.run.settings import ModelSettings


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Zoo(tmp_path)


@pytest.fixture
def model(zoo):
    return ModelSettings(data=zoo.data)


def right(zoo, path):
    return Classifier(load_checkpoint(path).model, workers=1).predict(zoo.images).correct


def test_evaluate_returns_numbers_and_failures(zoo, model, capsys):
    path = zoo.save("good.safetensors", jitter=0.3)
    (numbers, failures), _ = evaluate(path, model, failures=True)
    assert numbers.plain["clean_accuracy"] == right(zoo, path).mean()
    assert len(failures.plain["failures"][0]["rows"]) == (~right(zoo, path)).sum()
    assert "robust_accuracy" not in numbers.plain
    assert capsys.readouterr().out == ""


def test_compare_returns_both_models_and_what_changed(zoo, model, capsys):
    paths = zoo.save("a.safetensors", jitter=0.3), zoo.save("b.safetensors", jitter=0.3, seed=1)
    done = compare(paths, model)
    assert [each.role for each in done.models] == ["a", "b"]
    mine, theirs = (right(zoo, path) for path in paths)
    assert len(done.changed.lost) == (theirs & ~mine).sum()
    assert capsys.readouterr().out == ""


def test_break_returns_the_first_pose_of_each_path(zoo, model):
    path = zoo.save("good.safetensors")
    number = int(np.flatnonzero(right(zoo, path))[0])
    plain, lines, picture = break_image(path, model, number)
    assert plain["predicted"] == plain["true"]
    found = [plain[name] for name in ("rotation", "shift", "joint") if plain[name]]
    assert all(not each["prediction"].startswith(plain["true"]) for each in found)
    assert (len(lines), picture[:4]) == (4, b"\x89PNG")
