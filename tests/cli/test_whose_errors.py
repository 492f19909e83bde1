"""`stress-harness evaluate` with a panel: owners of errors, and suspected label errors."""

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from panels import view_of
from zoo import CLASSES, images_of, network

from harness.cli import main
from harness.data import load_images
from harness.inference import Classifier
from harness.measures.panel.predictions import NOT_ASKED, PanelPredictions, read_panel_predictions
from harness.perturb import IDENTITY

FLIPPED = np.array([8, 21, 130])
REFERENCE_MODELS = 20


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Images, three of them mislabelled, a checkpoint as weights, and a panel's predictions."""
    monkeypatch.chdir(tmp_path)
    images = images_of(200)
    labels = images.labels.numpy().copy()
    labels[FLIPPED] = (labels[FLIPPED] + 1) % 4
    np.savez(
        "shop.npz", images=images.pixels[:, 0].numpy(), labels=labels, classes=np.array(CLASSES)
    )
    torch.save(network().state_dict(), "new.pt")
    Path("net.py").write_text("from zoo import network\n")
    whole = load_images("npz:shop.npz")
    answers = Classifier(network(), workers=1).predict(whole)
    # Sharper than the network: a wrong label is a clear one.
    sharp = np.eye(4, dtype=np.float32)[answers.predicted] * 0.96 + 0.01
    right = np.tile(answers.correct, (REFERENCE_MODELS, 1))
    contested = int(np.flatnonzero(~answers.correct & ~np.isin(np.arange(200), FLIPPED))[0])
    right[: REFERENCE_MODELS // 2, contested] = True
    own = int(np.flatnonzero(~answers.correct & ~np.isin(np.arange(200), [*FLIPPED, contested]))[0])
    right[:, own] = True
    models = tuple(f"{number:064x}" for number in range(REFERENCE_MODELS))
    sharp[[contested, own]] = np.eye(4)[whole.labels[[contested, own]]] * 0.6 + 0.1
    view = view_of((~right).sum(axis=0), sharp, labels, ~right)
    Path("panel.predictions.npz").write_bytes(
        PanelPredictions(whole.sha256, CLASSES, models, {repr(IDENTITY): view}).as_bytes()
    )
    return answers, contested, own


def evaluate(*options: str) -> int:
    network_options = ("--data", "npz:shop.npz", "--model", "net:network")
    return main(["evaluate", "new.pt", *network_options, *options])


def test_failures_are_shared_seed_dependent_or_unique(shop, capsys):
    answers, contested, own = shop
    assert evaluate("--failures", "--json", "--panel-predictions", "panel.predictions.npz") == 0
    tables = {
        table["kind"].partition(":")[0]: table["rows"]
        for table in json.loads(capsys.readouterr().out)["failures"]
    }
    assert [row["index"] for row in tables["seed-dependent"]] == [contested]
    assert [row["index"] for row in tables["unique"]] == [own]
    assert len(tables["shared"]) == len(tables["any error"]) - 2
    assert len(tables["any error"]) == int((~answers.correct).sum())
    kinds = {
        row["kind"]
        for row in csv.DictReader(Path("reports/failures/failures.csv").read_text().splitlines())
    }
    assert any(kind.startswith("unique") for kind in kinds)


def test_label_errors_are_listed_with_what_the_model_comes_to_without_them(shop, capsys):
    answers, *_ = shop
    assert evaluate("--label-errors", "--panel-predictions", "panel.predictions.npz") == 0
    rows = list(csv.DictReader(Path("reports/failures/label_errors.csv").read_text().splitlines()))
    assert set(FLIPPED) <= {int(row["image"]) for row in rows}
    out = capsys.readouterr().out
    assert f"labels that nearly all of 20 reference models agree against: {len(rows)} of 200" in out
    kept = ~np.isin(np.arange(200), [int(row["image"]) for row in rows])
    assert (
        f"without them: accuracy {answers.correct[kept].mean():.4f} of {kept.sum()} images" in out
    )


def test_label_errors_do_not_depend_on_the_sample(shop, capsys):
    assert evaluate("--label-errors", "--panel-predictions", "panel.predictions.npz", "--json") == 0
    whole = json.loads(capsys.readouterr().out)["label_errors"]["rows"]
    assert (
        evaluate(
            "--label-errors",
            "--panel-predictions",
            "panel.predictions.npz",
            "--json",
            "--samples",
            "60",
        )
        == 0
    )
    sample = json.loads(capsys.readouterr().out)["label_errors"]["rows"]
    assert sample
    assert all(row in whole for row in sample)


@pytest.mark.parametrize("reference_models", [1, 2])
def test_one_or_two_retrains_tell_no_label_errors_and_all_else_is_told(
    shop, capsys, reference_models
):
    path = Path("panel.predictions.npz")
    known = read_panel_predictions(path)
    view = replace(known.view(), wrong=known.view().wrong.clip(0, reference_models), each=None)
    path.write_bytes(
        replace(
            known, models=known.models[:reference_models], views={repr(IDENTITY): view}
        ).as_bytes()
    )
    assert evaluate("--label-errors", "--per-class", "--panel-predictions", str(path)) == 0
    out = capsys.readouterr().out
    assert f"need at least 3 reference models; this panel has {reference_models}" in out
    assert "precision" in out
    assert not Path("reports/failures/label_errors.csv").exists()
    assert evaluate("--label-errors", "--panel-predictions", str(path), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["label_errors"] is None
    assert "at least 3 reference models" in found["label_errors_missing"]


def test_without_a_panel_no_errors_are_divided_nor_labels_suspected(shop, capsys):
    assert evaluate("--failures") == 0
    assert "unique" not in capsys.readouterr().out
    assert evaluate("--label-errors") == 2
    assert "name the file with --panel-predictions" in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["a sample", "another file's"])
def test_what_cannot_be_used_is_said_and_the_errors_are_told(shop, capsys, asked):
    """As the checks file names it, where nobody named a file."""
    known, path = (
        read_panel_predictions(Path("panel.predictions.npz")),
        Path("panel.predictions.npz"),
    )
    if sample := asked == "a sample":
        view = known.view()
        few = replace(
            view,
            wrong=np.where(np.arange(200) % 2, view.wrong, NOT_ASKED).astype(np.int16),
            each=None,
        )
        path.write_bytes(replace(known, views={repr(IDENTITY): few}).as_bytes())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if sample else "0" * 64
    Path("stress_tests").mkdir()
    data = f'name = "shop"\nsplit = "test"\nsha256 = "{known.data_sha256}"\nn = 200'
    recipe = (
        f'panel_predictions = "../panel.predictions.npz"\npanel_predictions_sha256 = "{sha256}"'
    )
    Path("stress_tests/checks.toml").write_text(
        f"schema = 2\nprotocol = 1\n[data]\n{data}\n[recipe]\n{recipe}\n"
    )
    assert evaluate("--failures") == 0
    said = "no panel predictions of 100 of 200 images" if sample else "bring back that file"
    err = capsys.readouterr().err
    assert "note: whose errors these are is not told: " in err
    assert said in err
    assert evaluate("--failures", "--panel-predictions", "panel.predictions.npz") == (
        2 if sample else 0
    )
    assert (
        "panel.predictions.npz: there are no panel predictions of 100" in capsys.readouterr().err
    ) == sample


def test_what_a_panel_knows_of_other_images_is_refused(shop, capsys):
    whole = load_images("npz:shop.npz")
    view = view_of(np.zeros(200), np.full((200, 4), 0.25), whole.labels)
    other = PanelPredictions("0" * 64, CLASSES, ("a" * 64,), {repr(IDENTITY): view})
    Path("other.predictions.npz").write_bytes(other.as_bytes())
    assert evaluate("--label-errors", "--panel-predictions", "other.predictions.npz") == 2
    assert whole.sha256[:12] in capsys.readouterr().err
    Path("other.predictions.npz").write_bytes(replace(other, data_sha256=whole.sha256).as_bytes())
    assert evaluate("--label-errors", "--panel-predictions", "other.predictions.npz") == 0
    Path("other.predictions.npz").write_text("garbage")
    assert evaluate("--label-errors", "--panel-predictions", "other.predictions.npz") == 2
    assert capsys.readouterr().err.count("other.predictions.npz") == 1
