"""The command `shortcuts`: areas, planted marks and files, and healthy data.

Its oracle is scikit-learn.
"""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from harness.cli import main
from harness.data import LabelledImages
from harness.features.shortcut.associations import areas_under_curves, associations
from harness.features.shortcut.properties import properties_of

CLASSES = ("ant", "bee", "cat")


def drawn(count, seed):
    """Return noise images (N, 20, 20) and labels (N,)."""
    rng = np.random.default_rng(seed)
    return rng.integers(60, 180, (count, 20, 20)).astype(np.uint8), np.arange(count) % 3


def save(path, pixels, labels):
    np.savez(path, images=pixels, labels=labels, classes=np.array(CLASSES))
    return f"npz:{path.name}"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "test.npz", *drawn(600, 1))
    return tmp_path


def run(train, capsys, *options):
    status = main(["shortcuts", "--train", train, "--data", "npz:test.npz", "--json", *options])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_is_that_of_sklearn_and_its_variance_that_of_simulation(ties):
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(400):
        positive = rng.random(300) < 0.3
        values = rng.normal(size=300) + 0.5 * positive
        values = values.round() if ties else values
        areas_of_class, variances = areas_under_curves(values, positive.astype(int), np.array([1]))
        area, variance = areas_of_class.item(), variances.item()
        assert area == pytest.approx(roc_auc_score(positive, values))
        areas.append(area)
    assert variance == pytest.approx(np.var(areas), rel=0.3)


def area_by_pairs(values, positive):
    """Return the area and its variance by DeLong's definition.

    Each image of the class beside each other one.
    """
    own, others = np.sort(values[positive]), np.sort(values[~positive])
    wins = (own[:, None] > others) + 0.5 * (own[:, None] == others)
    of_own, of_others = wins.mean(axis=1), wins.mean(axis=0)
    return of_own.mean(), of_own.var(ddof=1) / len(own) + of_others.var(ddof=1) / len(others)


@pytest.mark.parametrize("decimals", [0, 1, 9], ids=["many ties", "ties", "no ties"])
def test_areas_of_many_classes_are_those_of_each_class_alone(decimals):
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 30, 900)
    values = np.round(rng.normal(size=900) + 0.02 * labels, decimals)
    classes = np.array([0, 3, 4, 17, 29])
    areas, variances = areas_under_curves(values, labels, classes)
    expected = [area_by_pairs(values, labels == label) for label in classes]
    assert areas == pytest.approx([area for area, _ in expected], rel=1e-12)
    assert variances == pytest.approx([variance for _, variance in expected], rel=1e-10)


def test_a_mark_on_a_fifth_of_a_class_is_named_with_its_place(project, capsys):
    pixels, labels = drawn(1_500, 2)
    marked = (labels == 1) & (np.random.default_rng(3).random(1_500) < 0.2)
    pixels[marked, -2:, :] = 255
    status, found = run(save(project / "train.npz", pixels, labels), capsys)
    assert status == 1
    strongest = found["shortcuts"][0]
    assert (strongest["property"], strongest["class"]) == ("level of the lower edge", "bee")
    assert strongest["training_area"] > 0.55 > strongest["test_area"]
    with (project / "reports/shortcuts.csv").open() as table:
        assert next(csv.DictReader(table))["property"] == "level of the lower edge"


def test_data_of_one_kind_have_no_shortcut(project, capsys):
    status, found = run(save(project / "train.npz", *drawn(1_500, 4)), capsys)
    assert (status, found["shortcuts"]) == (0, [])
    assert (found["training_images"], found["test_images"]) == (1_500, 600)


def test_by_chance_one_in_a_hundred_names_anything():
    rng = np.random.default_rng(5)

    def noise(count):
        return {f"property {number}": rng.normal(size=count) for number in range(10)}, np.arange(
            count
        ) % 3

    named = sum(bool(associations(noise(400), noise(200), classes=3)) for _ in range(100))
    assert named <= 4


def test_the_formats_and_sizes_of_files_count(project, capsys):
    for name, count in (("train", 90), ("test", 60)):
        pixels, labels = drawn(count, 6)
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            folder = project / name / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            is_jpeg = name == "train" and label == 2
            picture = Image.fromarray(image).resize((40, 20) if is_jpeg else (20, 20))
            picture.save(folder / f"{number}.{'jpg' if is_jpeg else 'png'}")
    arguments = [
        "shortcuts",
        "--train",
        "folder:train",
        "--data",
        "folder:test",
        "--size",
        "20",
        "--json",
    ]
    assert main(arguments) == 1
    named = {
        (row["property"], row["class"]) for row in json.loads(capsys.readouterr().out)["shortcuts"]
    }
    assert {("aspect ratio", "cat"), ("file format PNG", "cat"), ("file width", "cat")} <= named


def test_properties_are_those_of_the_pixels():
    pixels = torch.zeros(2, 3, 28, 28, dtype=torch.uint8)
    pixels[1, 0, :2] = 90
    found = properties_of(LabelledImages(pixels, torch.tensor([0, 1]), ("a", "b"), "two", "test"))
    assert found["level of the upper edge"].tolist() == [0, 30]
    assert found["level of the lower edge"].tolist() == [0, 0]
    assert found["mean red"].tolist() == pytest.approx([0, 90 * 2 / 28])
    assert found["mean green"].tolist() == [0, 0]
    assert found["sharpness"][1] > found["sharpness"][0] == 0


@pytest.mark.parametrize("of_a_class", [2, 10, 19])
def test_a_class_with_few_images_does_not_count(of_a_class):
    labels = np.array([0] * 50 + [1] * (50 - of_a_class) + [2] * of_a_class)
    values = {"level": np.arange(100.0)}
    found = associations((values, labels), ({"level": np.zeros(100)}, labels), classes=3)
    assert 2 not in {association.label for association in found}


def test_a_format_that_test_images_lack_is_named():
    labels = np.arange(100) % 2
    training = {
        "file size": np.ones(100),
        "file format JPEG": 1.0 - labels,
        "file format PNG": 1.0 * labels,
    }
    test = {"file size": np.ones(100), "file format WEBP": np.ones(100)}
    found = associations((training, labels), (test, labels), classes=2)
    assert {association.name for association in found} == {"file format JPEG", "file format PNG"}


def test_other_classes_are_refused(project, capsys):
    pixels, labels = drawn(30, 7)
    np.savez(project / "other.npz", images=pixels, labels=labels, classes=np.array(["x", "y", "z"]))
    assert main(["shortcuts", "--train", "npz:other.npz", "--data", "npz:test.npz"]) == 2
    assert (
        "has the classes x, y, z; expected those of the test images, ant, bee, cat"
        in capsys.readouterr().err
    )
