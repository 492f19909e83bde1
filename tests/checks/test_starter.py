"""A first checks file for data of one's own.

It is read, it fits the data, it names what a model confuses.
"""

import re
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from zoo import images_of as zoo_images
from zoo import network as zoo_network
from zoo import role_model

from harness.base.errors import InputError
from harness.checks import read_checks
from harness.checks.families import DEFAULT, GEOMETRIC, offered, starter, starter_checks
from harness.checks.shipped import shipped_tests
from harness.checks.slices import expect_groups_of
from harness.checks.tables import in_toml
from harness.data import LabelledImages
from harness.data.domain import AugmentationRange, Domain
from harness.perturb import IDENTITY, Pose

MARK = re.compile(r'(?m)^@check\("([\w-]+)"(.*)\)$')
CLASSES = ("T-shirt/top", "Trouser", "靴")


def images_of(labels=(0, 1, 2, 0), size=(28, 56)) -> LabelledImages:
    pixels = torch.zeros(len(labels), 1, *size, dtype=torch.uint8)
    return LabelledImages(pixels, torch.tensor(labels), CLASSES, "shop", "test")


def test_it_is_a_checks_file_for_these_images(tmp_path):
    images = images_of()
    families = [*DEFAULT, "pairs"]
    (tmp_path / "checks.toml").write_text(
        starter(images, starter_checks(images, families, pairs=[("Trouser", "靴")]))
    )
    checks = read_checks(tmp_path / "checks.toml")
    assert (checks.data.sha256, checks.data.n, checks.data.classes) == (images.sha256, 4, CLASSES)
    by_id = {check.id: check for check in checks.checks}
    assert [name for name in by_id if name.startswith("clean")] == [
        "clean", "clean-t-shirt-top", "clean-trouser", "clean-class-2",
    ]  # fmt: skip
    assert {name: check.pose for name, check in by_id.items() if check.pose != IDENTITY} == {
        "rotate-cw-010": Pose(degrees=-10),
        "rotate-cw-005": Pose(degrees=-5),
        "rotate-ccw-005": Pose(degrees=5),
        "rotate-ccw-010": Pose(degrees=10),
        "shift-right-4": Pose(dx=4),
        "shift-left-4": Pose(dx=-4),
        "shift-down-2": Pose(dy=2),
        "shift-up-2": Pose(dy=-2),
    }
    assert (by_id["confident-errors"].direction, by_id["confident-errors"].keys) == (
        "at_most",
        {"confidence": 0.9},
    )
    assert by_id["pair-trouser-class-2"].keys == {"pair": ["Trouser", "靴"]}
    assert [check.id for check in checks.checks if check.binding] == ["regression-clean"], (
        "which needs no panel"
    )


def test_checks_of_geometry_come_with_an_augmentation_range():
    images = images_of()
    assert not {row.family for row in starter_checks(images)} & set(GEOMETRIC)
    declared = {
        row.family
        for row in starter_checks(images, augmentation=AugmentationRange(10, 2, 2, flip=True))
    }
    assert declared & set(GEOMETRIC) == {"rotation", "shift", "flip", "augmentation_gap"}


def rows_of(augmentation) -> dict[str, dict]:
    """Return the first checks of all families of geometry: their entries by id."""
    families = [*GEOMETRIC, "equivalence"]
    rows = starter_checks(images_of(), families, augmentation=augmentation)
    geometric = [row for row in rows if row.family in GEOMETRIC or row.id == "equivalence-corners"]
    return {row.id: dict(row.more) for row in geometric}


def test_a_range_in_one_axis_has_no_check_of_another():
    """As of spectrograms, which shift in time alone."""
    assert rows_of(AugmentationRange(shift_x=6)) == {
        "equivalence-corners": {
            "under": ["corners"],
            "tolerance": 0.02,
            "reason": "a healthy int8 conversion of the shipped model changes 0.9% at the corners "
            "of the augmentation range",
        },
        "shift-right-6": {"pose": {"dx": 6}},
        "shift-left-6": {"pose": {"dx": -6}},
        "label-probability-change-right-6": {"pose": {"dx": 6}},
        "label-probability-change-left-6": {"pose": {"dx": -6}},
        "drawn-pose": {"within": {"dx": 6}},
        "drawn-pose-unchanged": {"within": {"dx": 6}},
        "worst-pose-augmentation-range": {"grid": "augmentation-range"},
        "break-shift-median": {"path": "shift", "share_broken": 0.5},
    }
    assert rows_of(AugmentationRange(flip=True)).keys() == {
        *("flip", "flip-invariance"),
        *("label-probability-change-flip", "log-loss-change-flip"),
    }
    assert rows_of(AugmentationRange()) == {}


def test_checks_reach_the_limits_of_a_declared_range():
    rows = rows_of(AugmentationRange(rotate=7, shift_x=3))
    poses = {name: entries["pose"] for name, entries in rows.items() if "pose" in entries}
    assert poses == {
        "rotate-cw-007": {"degrees": -7},
        "rotate-cw-3.5": {"degrees": -3.5},
        "rotate-ccw-3.5": {"degrees": 3.5},
        "rotate-ccw-007": {"degrees": 7},
        "shift-right-3": {"dx": 3},
        "shift-left-3": {"dx": -3},
        "pose-ccw-007-right": {"degrees": 7, "dx": 3},
        "pose-ccw-007-left": {"degrees": 7, "dx": -3},
        "pose-cw-007-right": {"degrees": -7, "dx": 3},
        "pose-cw-007-left": {"degrees": -7, "dx": -3},
        "gain-ccw-007": {"degrees": 7},
        "gain-cw-007": {"degrees": -7},
        "label-probability-change-ccw-007": {"degrees": 7},
        "label-probability-change-cw-007": {"degrees": -7},
        "label-probability-change-right-3": {"dx": 3},
        "label-probability-change-left-3": {"dx": -3},
    }


def test_the_file_names_a_range_and_a_border_that_are_not_the_default(tmp_path):
    domain = Domain(AugmentationRange(shift_x=6), "mean")
    images = replace(images_of(), domain=domain)
    (tmp_path / "checks.toml").write_text(starter(images, starter_checks(images)))
    assert read_checks(tmp_path / "checks.toml").data.domain == domain
    assert "border" not in starter(images_of(), starter_checks(images_of()))


def skew_tolerances(path, images, model=None) -> set[str]:
    """Return the skews with a tolerance among the first checks of these images."""
    path.write_text(starter(images, starter_checks(images, ["skew"], model=model)))
    checks = {
        check.keys["skew"]: check for check in read_checks(path).checks if "lost" in check.metric
    }
    assert {"jpeg-75", "resize-opencv-bilinear", "crop-corner-1", "video-range"} <= set(checks)
    assert {"bgr", "exif", "decode-opencv", "squash"} & set(checks) == set(), (
        "gray pixels without files"
    )
    return {skew for skew, check in checks.items() if check.tolerance is not None}


class Dim(torch.nn.Module):
    """Tells the zoo's images apart only while they have a pixel of the highest level."""

    def __init__(self):
        super().__init__()
        self.network = zoo_network()

    def forward(self, pixels):
        return self.network(pixels) * (pixels.amax(dim=(1, 2, 3)) > 0.999)[:, None]


def test_first_checks_of_skews_have_tolerances_that_a_given_model_keeps(tmp_path):
    """All others are informational until calibrated.

    Nobody knows yet how healthy models differ there.
    """
    path, many = tmp_path / "checks.toml", zoo_images(600)
    assert skew_tolerances(path, many) == set(), "without a model"
    assert skew_tolerances(path, zoo_images(60), role_model()) == set(), (
        "too few images can prove no tolerance"
    )
    kept = skew_tolerances(path, many, role_model())
    assert {"jpeg-95", "divide-256", "float16"} <= kept
    assert not {"video-range", "crop-corner-1"} & kept
    bright = many.pixels.clone()
    bright[:, :, 0, 0] = 255
    lost = skew_tolerances(path, replace(many, pixels=bright), role_model(model=Dim()))
    assert "divide-256" not in lost, "which makes no pixel 1.0"
    assert "float16" in lost


@settings(max_examples=30, deadline=None)
@given(st.text() | st.lists(st.text()))
@example("a red 🍎, \x7f, \x1b[31m and \U00020bb7, in one \u2028 line\r\n")
def test_whatever_a_class_is_called_toml_has_it(value):
    written = in_toml(value)
    assert written.isprintable()
    assert tomllib.loads(f"value = {written}") == {"value": value}


def test_whatever_classes_are_called_the_file_can_be_read(tmp_path):
    """Each row has a short id of its own, with any names of classes and pairs."""
    long = "x" * 210
    classes = (
        "Class 1",
        "class-1",
        "class 1 0",
        "consensus",
        "a",
        "a b",
        "b c",
        "c",
        long,
        f"{long} y",
        f"{long}/",
    )
    pixels, labels = images_of(range(len(classes))).pixels, torch.arange(len(classes))
    images = LabelledImages(pixels, labels, classes, "shop", "test")
    pairs = [("a", "b c"), ("a b", "c"), (long, f"{long} y")]
    (tmp_path / "checks.toml").write_text(
        starter(images, starter_checks(images, [*set(offered()) - {"slice"}], pairs=pairs))
    )
    checks = read_checks(tmp_path / "checks.toml")
    by_class = {check.class_name: check.id for check in checks.family("class")}
    assert len(by_class) == len(classes)
    assert [by_class[name] for name in classes[:3]] == [
        "clean-class-1-1",
        "clean-class-1-2",
        "clean-class-1-0",
    ]
    assert [by_class[name] for name in classes[-3:]] == [
        f"clean-{'x' * 80}-{number}" for number in (8, 9, 10)
    ]
    assert [check.id for check in checks.family("flips") if check.class_name is None] == [
        "flips",
        "flips-consensus-2",
    ]
    assert [check.id for check in checks.family("pairs")][:2] == ["pair-a-b-c", "pair-a-b-c-2"]


def test_a_shipped_test_takes_each_row_of_each_family():
    images = replace(images_of(), groups={"camera": np.array(list("abab"))})
    rows = starter_checks(images, list(offered()), pairs=[("Trouser", "靴")])
    assert {row.family for row in rows} == set(offered())
    text = "\n".join(path.read_text() for path in shipped_tests(offered()))
    marks = {
        (family, "".join(re.findall(r'metric="(.*)"', more))) for family, more in MARK.findall(text)
    }
    assert [
        row.id for row in rows if marks.isdisjoint({(row.family, row.metric), (row.family, "")})
    ] == []


def test_groups_have_rows_of_their_own_and_their_hash_in_the_file(tmp_path):
    groups = {
        "Kamera 1": np.array(["vorn", "Heck!", "vorn", "Heck?"]),
        "batch": np.array(["靴", "7", "7", "7"]),
    }
    images = replace(images_of(), groups=groups)
    (tmp_path / "checks.toml").write_text(starter(images, starter_checks(images, ["slice"])))
    checks = read_checks(tmp_path / "checks.toml")
    assert [check.id for check in checks.checks] == [
        *(
            "worst-kamera-1",
            "gap-kamera-1",
            "slice-kamera-1-heck-0",
            "slice-kamera-1-heck-1",
            "slice-kamera-1-vorn",
        ),
        *("difference-kamera-1-heck-0", "difference-kamera-1-heck-1", "difference-kamera-1-vorn"),
        *("worst-batch", "gap-batch", "slice-batch-7", "slice-batch-group-1"),
        *("difference-batch-7", "difference-batch-group-1"),
    ]
    assert checks.checks[-1].keys == {"by": "batch", "group": "靴"}
    expect_groups_of(checks, images)
    many = replace(images_of([0, 1, 2] * 34), groups={"batch": np.arange(102).astype(str)})
    assert [row.id for row in starter_checks(many, ["slice"])] == ["worst-batch", "gap-batch"]
    assert read_checks_without_groups(tmp_path).data.groups_sha256 is None
    with pytest.raises(
        InputError, match=r"slice: the data have no groups; add a value .*`groups` in an npz file"
    ):
        starter_checks(images_of(), ["slice"])


def test_pairs_serve_the_checks_of_groups_and_have_none_of_their_own(tmp_path):
    """Each camera takes each scene, and each site has scenes of its own."""
    columns = {"camera": list("abab"), "site": list("xxyy"), "pair": list("1122"), "day": ["1"] * 4}
    images = replace(
        images_of(), groups={name: np.array(values) for name, values in columns.items()}
    )
    (tmp_path / "checks.toml").write_text(starter(images, starter_checks(images, ["slice"])))
    found = {check.id: check.keys for check in read_checks(tmp_path / "checks.toml").checks}
    assert {
        name: keys.get("paired_by") for name, keys in found.items() if name.startswith("difference")
    } == {
        "difference-camera-a": "pair",
        "difference-camera-b": "pair",
        "difference-site-x": None,
        "difference-site-y": None,
    }
    assert not [name for name in found if "pair" in name]
    text = (
        (tmp_path / "checks.toml").read_text().replace('paired_by = "pair"', 'paired_by = "scene"')
    )
    (tmp_path / "checks.toml").write_text(text)
    with pytest.raises(
        InputError, match=r"camera-a': paired_by is 'scene', the data have .*camera, site, pair"
    ):
        expect_groups_of(read_checks(tmp_path / "checks.toml"), images)


def read_checks_without_groups(folder):
    images = replace(images_of(), groups={"batch": np.array(["a", "b", "a", "b"])})
    (folder / "checks.toml").write_text(starter(images, starter_checks(images, ["clean"])))
    return read_checks(folder / "checks.toml")


def test_rows_of_groups_that_the_data_lack_are_refused(tmp_path):
    images = replace(images_of(), groups={"camera": np.array(list("abab"))})
    path = tmp_path / "checks.toml"
    text = starter(images, starter_checks(images, ["slice"]))

    def refused(text, images=images):
        path.write_text(text)
        with pytest.raises(InputError) as error:
            expect_groups_of(read_checks(path), images)
        return str(error.value)

    assert "has 6 checks of family 'slice', and the data have no groups" in refused(
        text, images_of()
    )
    other = replace(images, groups={"camera": np.array(list("aabb"))})
    assert "was made for other groups; the data have camera (a 2, b 2). Bring back" in refused(
        text, other
    )
    without = "\n".join(line for line in text.splitlines() if "groups_sha256" not in line)
    (line,) = (line for line in text.splitlines() if "groups_sha256" in line)
    assert line in refused(without), "the line that is missing"
    assert "check 'slice-camera-a': group is 'c', the data have by camera: a, b" in refused(
        text.replace('group = "a"', 'group = "c"')
    )
    assert "check 'worst-camera': by is 'site', the data have groups by camera" in refused(
        text.replace('by = "camera"', 'by = "site"')
    )


def test_first_checks_by_hand_or_of_few_classes(tmp_path):
    images = images_of()
    (tmp_path / "checks.toml").write_text(
        starter(images, starter_checks(images, ["clean", "class"], min_accuracy=0.8))
    )
    checks = read_checks(tmp_path / "checks.toml").checks
    assert {check.id: check.hand.threshold for check in checks if check.hand} == {"clean": 0.8}
    images = replace(
        images_of([0, 1], size=(4, 4)), classes=tuple(f"class {at}" for at in range(101))
    )
    assert not {"class-difference", "flips"} & {row.family for row in starter_checks(images)}
    images = replace(images_of([0, 0], size=(4, 4)), classes=("all",))
    assert starter_checks(images, ["class-difference"]) == ()
    images = replace(images_of(), groups={"confidence": np.array(list("abab"))})
    named = {row.id for row in starter_checks(images, ["equivalence"])}
    assert {"equivalence-confidence", "equivalence-confidence-2"} <= named
    assert len(named) == len(starter_checks(images_of(), ["equivalence"])) + 1
    images = LabelledImages(
        images_of((0, 1)).pixels, torch.tensor([0, 1]), ("a b", "A-B"), "shop", "test"
    )
    (tmp_path / "checks.toml").write_text(starter(images, starter_checks(images)))
    assert [check.id for check in read_checks(tmp_path / "checks.toml").family("class")] == [
        "clean-a-b-0",
        "clean-a-b-1",
    ]


@pytest.mark.parametrize(
    ("families", "threshold"), [(["rotation"], 0.9), (["clean"], 0.0), (["clean"], 90.0)]
)
def test_a_first_threshold_without_a_row_or_that_is_no_share_is_refused(families, threshold):
    with pytest.raises(
        InputError,
        match=r"expected a share above 0 and at most 1, such as 0\.9, and the family clean",
    ):
        starter_checks(images_of(), families, min_accuracy=threshold)


@pytest.mark.parametrize(
    ("groups", "sliced"),
    [
        ({}, False),
        ({"pair": np.arange(200).astype(str)}, False),
        ({"serial": np.arange(200).astype(str)}, False),
        ({"split": np.array(["test"] * 200)}, False),
        ({"camera": np.array(["front", "rear"] * 100), "serial": np.arange(200).astype(str)}, True),
    ],
)
def test_columns_with_groups_to_compare_have_checks_by_default(groups, sliced):
    rows = starter_checks(replace(images_of([0, 1] * 100, size=(4, 4)), groups=groups))
    assert {"class-difference", "consensus", "flips"} <= {row.family for row in rows}
    assert any(row.family == "slice" for row in rows) == sliced
    assert not any("serial" in row.id for row in rows)
