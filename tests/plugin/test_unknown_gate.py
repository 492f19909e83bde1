"""Checks about images of no class in a gate: free ones, images from elsewhere, and answers without logits."""

import numpy as np
import pytest
from PIL import Image
from zoo import CLEAN, GatedZoo

from harness.data.pipeline import Pipeline
from harness.data.sources import load_elsewhere

ROWS = """
[[check]]
id = "shuffled"
family = "unknown"
metric = "unknown_auroc"
unknown = "patch-shuffled"
score = "softmax"
hand = { threshold = 0.6 }

[[check]]
id = "shuffled-flagged"
family = "unknown"
metric = "unknown_fpr95"
unknown = "patch-shuffled"
score = "energy"
"""
ELSEWHERE = """
[[check]]
id = "elsewhere"
family = "unknown"
metric = "unknown_auroc"
unknown = "elsewhere"
score = "softmax"
"""


@pytest.fixture
def zoo(pytester):
    zoo = GatedZoo(pytester, tests=("clean", "unknown"))
    zoo.bind(CLEAN + ROWS + ELSEWHERE)
    return zoo


def pictures(folder, count=12, *, size=(40, 20), nested=True):
    """Write pictures of another size, in color, some of them in a subfolder."""
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for at in range(count):
        place = folder / "more" if nested and at % 2 else folder
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(place / f"{at}.png")
    (folder / "notes.txt").write_text("none")
    return folder


def test_free_images_are_judged_and_elsewhere_is_not_applicable(zoo):
    result = zoo.run()
    assert result.ret == 0
    found = {check["id"]: check for check in zoo.report()["checks"]}
    assert found["shuffled"]["status"] == "pass"
    assert found["shuffled"]["n"] == 400
    assert found["shuffled-flagged"]["status"] == "informational"
    assert found["elsewhere"]["status"] == "not_applicable"
    assert "name some with" in found["elsewhere"]["detail"]


def test_a_blind_model_fails(zoo):
    zoo.save("models/augmented.safetensors", blind=True)
    assert zoo.run().ret == 1
    assert zoo.statuses["shuffled"] == "fail"


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.processes)])
def test_a_folder_of_pictures_is_measured(zoo, workers):
    pictures(zoo.root / "cars")
    assert zoo.run("--stress-set", "unknown=folder:cars", *workers).ret == 0
    found = {check["id"]: check for check in zoo.report()["checks"]}["elsewhere"]
    assert found["status"] == "informational"
    assert found["n"] == 200 + 12


def test_labels_of_images_from_elsewhere_do_not_count(zoo):
    folder = pictures(zoo.root / "cars", nested=False)
    flat = load_elsewhere(f"folder:{folder}", zoo.images, Pipeline())
    assert flat.pixels.shape == (12, 1, 16, 16)
    assert set(flat.labels.tolist()) == {-1}
    assert flat.classes == zoo.images.classes


def test_a_file_in_the_format_of_the_data_is_taken(zoo):
    np.savez(zoo.root / "other.npz", images=np.zeros((7, 16, 16), np.uint8), labels=np.arange(7) % 2)
    assert zoo.run("--stress-set", "unknown=npz:other.npz").ret == 0
    assert {check["id"]: check["n"] for check in zoo.report()["checks"]}["elsewhere"] == 207


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("folder:nowhere", "no pictures in it"),
        ("folder:empty", "no pictures in it"),
        ("cars", "unknown data"),
        ("fashion-mnist", "has images of 28x28 pixels"),
    ],
)
def test_images_that_cannot_be_used_end_with_4(zoo, spec, said):
    (zoo.root / "empty").mkdir()
    result = zoo.run("--stress-set", f"unknown={spec}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*unknown {spec}*{said}*"])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (CLEAN, "; run `stress-harness init --families unknown`, or add a check of family"),
        (CLEAN + ROWS, "; add a check of family"),
    ],
)
def test_images_that_no_check_is_about_end_with_4_and_the_next_step(zoo, rows, said):
    zoo.bind(rows)
    pictures(zoo.root / "cars")
    result = zoo.run("--stress-set", "unknown=folder:cars")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*unknown: *no check of*measures them{said}*"])


def test_a_check_about_certain_images_refuses_others(zoo):
    folder = pictures(zoo.root / "cars")
    images = load_elsewhere(f"folder:{folder}", zoo.images, Pipeline())
    zoo.bind(CLEAN + ROWS + ELSEWHERE + f'sha256 = "{images.sha256}"\n')
    assert zoo.run("--stress-set", "unknown=folder:cars").ret == 0
    next(folder.glob("*.png")).unlink()
    result = zoo.run("--stress-set", "unknown=folder:cars")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*sha256 is*calibrate it for these*"])


def test_a_recording_must_name_its_images(zoo):
    pictures(zoo.root / "cars")
    result = zoo.run("--stress-set", "unknown=folder:cars", record="unknown")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*its threshold is for certain images*sha256 = *"])


def test_without_a_row_the_family_costs_nothing(zoo):
    zoo.bind(CLEAN)
    assert zoo.run().ret == 0
    assert not {check["family"] for check in zoo.report()["checks"]} & {"unknown"}


def test_a_check_that_names_no_images_is_an_error(zoo):
    zoo.bind(CLEAN + ROWS.replace('unknown = "patch-shuffled"\n', ""))
    assert zoo.run().ret == 4
    assert zoo.statuses["shuffled"] == "error"
