"""A group of images that a model serves badly fails by name, in a check on data that say which groups they are of."""

import numpy as np
import pytest
from zoo import CLASSES, ROWS, GatedZoo, images_of

from harness.data import load_images
from harness.data.groups import groups_sha256

SLICES = """
[[check]]
id = "slice-camera-front"
family = "slice"
metric = "group_accuracy"
by = "camera"
group = "front"
hand = { threshold = 0.8 }

[[check]]
id = "slice-camera-rear"
family = "slice"
metric = "group_accuracy"
by = "camera"
group = "rear"
hand = { threshold = 0.8 }

[[check]]
id = "difference-camera-rear"
family = "slice"
metric = "group_difference"
by = "camera"
group = "rear"
hand = { threshold = -0.05 }

[[check]]
id = "difference-cat"
family = "class-difference"
metric = "class_difference"
class = "cat"
hand = { threshold = -0.9 }

[[check]]
id = "worst-camera"
family = "slice"
metric = "worst_group_accuracy"
by = "camera"
least = 50
hand = { threshold = 0.8 }

[[check]]
id = "gap-camera"
family = "slice"
metric = "group_gap"
by = "camera"
hand = { threshold = 0.1 }
"""


@pytest.fixture
def zoo(pytester):
    """The zoo where every third image comes from a camera at the rear, which sees little but noise."""
    zoo = GatedZoo(pytester, tests=("clean", "slices", "class_difference"))
    images = images_of()
    rear = np.arange(len(images)) % 3 == 0
    pixels = images.pixels[:, 0].numpy().copy()
    pixels[rear] = pixels[rear] // 8 + 100
    cameras = np.array([(name,) for name in np.where(rear, "rear", "front")], dtype=[("camera", "U5")])
    arrays = {"images": pixels, "labels": images.labels.numpy(), "classes": np.array(CLASSES)}
    np.savez(zoo.root / "zoo.npz", **arrays, groups=cameras)
    zoo.images = load_images(zoo.data)
    clean = ROWS.split("\n\n")[0].replace("0.85", "0.65")
    zoo.bind(clean + SLICES)
    text = zoo.checks.read_text()
    zoo.checks.write_text(text.replace("[data]\n", f'[data]\ngroups_sha256 = "{groups_sha256(zoo.images.groups)}"\n'))
    return zoo


def test_the_group_that_is_served_badly_fails_by_name(zoo):
    result = zoo.run(page=True)
    assert result.ret == 1
    assert zoo.statuses == {
        "clean": "pass",
        "class": "informational",
        "slice-camera-front": "pass",
        "slice-camera-rear": "fail",
        "difference-camera-rear": "fail",
        "difference-cat": "pass",
        "worst-camera": "fail",
        "gap-camera": "fail",
    }
    found = {check["id"]: check for check in zoo.report()["checks"]}
    assert found["slice-camera-rear"]["n"] == 134
    assert found["worst-camera"]["value"] == found["slice-camera-rear"]["value"]
    assert found["worst-camera"]["detail"] == "worst of 2 groups by camera: rear, 134 images"
    gap = found["slice-camera-front"]["value"] - found["slice-camera-rear"]["value"]
    assert found["gap-camera"]["value"] == pytest.approx(gap)
    result.stdout.fnmatch_lines(["*slice-camera-rear: group accuracy 0.* < threshold 0.8000 (n=134,*"])
    page = (zoo.root / "reports/stress.html").read_text()
    assert 'id="report-slices"' in page
    assert "Accuracy by camera" in page


def test_a_row_of_a_group_without_images_is_not_applicable(zoo):
    images = zoo.images
    few = np.flatnonzero(images.groups["camera"] == "rear")[:1]
    text = zoo.checks.read_text()
    groups = {"camera": np.where(np.isin(np.arange(len(images)), few), "rear", "front")}
    arrays = {"images": images.pixels[:, 0].numpy(), "labels": images.labels.numpy(), "classes": np.array(CLASSES)}
    cameras = np.array([(name,) for name in groups["camera"]], dtype=[("camera", "U5")])
    np.savez(zoo.root / "zoo.npz", **arrays, groups=cameras)
    zoo.checks.write_text(text.replace(groups_sha256(images.groups), groups_sha256(groups)))
    zoo.run("--stress-samples", "8")
    assert zoo.statuses["slice-camera-rear"] == "not_applicable"
    assert zoo.report()["verdict"] == "partial"


def test_data_with_other_groups_than_the_rows_are_for_end_with_4(zoo):
    zoo.checks.write_text(zoo.checks.read_text().replace("groups_sha256 =", 'groups_sha256 = "old" #'))
    result = zoo.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*checks.toml: was made for other groups; the data have camera (front 266, rear 134).*"]
    )


def test_without_rows_nobody_asks_for_groups(zoo):
    zoo.bind(ROWS.split("\n\n")[0].replace("0.85", "0.65"))
    assert zoo.run().ret == 0
    assert zoo.statuses == {"clean": "pass", "class": "informational"}
