"""Checks of flips, groups, skews and images of no class.

They pass, fail by name, or say why they do not apply.
"""

import html
import re

import numpy as np
import pytest
from PIL import Image
from zoo import CLASSES, CLEAN, ROWS, images_of, network

from harness.checks import read_checks
from harness.data import load_images
from harness.data.groups import groups_sha256
from harness.data.pipeline import Pipeline
from harness.data.sources import load_elsewhere
from harness.inference import Classifier

TESTS = ("clean", "flips", "slices", "class_difference", "skew", "unknown", "equivalence")


def row_of(name: str, family: str, metric: str, keys: str = "", hand: float | None = None) -> str:
    threshold = "" if hand is None else f"hand = {{ threshold = {hand} }}\n"
    return (
        f'\n[[check]]\nid = "{name}"\nfamily = "{family}"\nmetric = "{metric}"\n{keys}\n{threshold}'
    )


# Flips.

FLIPS = (
    row_of("flips", "flips", "negative_flips", hand=20)
    + row_of("flips-bee", "flips", "negative_flips", 'class = "bee"', 10)
    + row_of("flips-consensus", "flips", "negative_flips", 'among = "consensus"')
)
AGAINST = ("--incumbent", "old.safetensors", "--candidate")


@pytest.fixture(scope="module")
def gate(shared):
    shared.save("old.safetensors")
    shared.save("near.safetensors", jitter=0.02, seed=1)
    shared.save("far.safetensors", jitter=3.0, seed=1)
    shared.save("blind.safetensors", blind=True)
    pictures(shared.root / "cars")
    (shared.root / "empty").mkdir()
    return shared


def test_few_negative_flips_pass_and_many_fail(gate):
    ran = gate.once(*AGAINST, "near.safetensors", rows=CLEAN + FLIPS)
    assert ran.ending == (0, "pass")
    kept = {"clean": "pass", "class": "informational", "flips": "pass", "flips-bee": "pass"}
    assert ran.statuses == {**kept, "flips-consensus": "not_applicable"}, (
        "nobody recorded what reference models know"
    )
    ran = gate.once(*AGAINST, "far.safetensors", rows=CLEAN + FLIPS)
    assert (ran.ret, ran.statuses["flips"]) == (1, "fail")
    before, now = (
        Classifier(network(**facts), workers=1).predict(gate.images).correct
        for facts in ({}, {"jitter": 3.0, "seed": 1})
    )
    lost = int((before & ~now).sum())
    ran.stdout.fnmatch_lines(
        [f"*flips: negative flips {lost} > threshold 20 (n=400*gained in return; most often*"]
    )
    assert np.isclose(ran.checks["flips"]["value"], lost)


@pytest.mark.parametrize(
    "how", [(*AGAINST, "old.safetensors"), ("--incumbent", "none")], ids=["itself", "none"]
)
def test_the_incumbent_itself_and_a_run_without_one_have_no_flips(gate, how):
    ran = gate.once(*how, rows=CLEAN + FLIPS)
    assert {ran.statuses[name] for name in ("flips", "flips-bee", "flips-consensus")} == {
        "not_applicable"
    }


# Groups.

BY_CAMERA = 'by = "camera"'
SLICES = (
    row_of("slice-front", "slice", "group_accuracy", f'{BY_CAMERA}\ngroup = "front"', 0.8)
    + row_of("slice-rear", "slice", "group_accuracy", f'{BY_CAMERA}\ngroup = "rear"', 0.8)
    + row_of("difference-rear", "slice", "group_difference", f'{BY_CAMERA}\ngroup = "rear"', -0.05)
    + row_of("difference-cat", "class-difference", "class_difference", 'class = "cat"', -0.9)
    + row_of("worst-camera", "slice", "worst_group_accuracy", f"{BY_CAMERA}\nleast = 50", 0.8)
    + row_of("gap-camera", "slice", "group_gap", BY_CAMERA, 0.1)
)


def rear_camera(zoo, rear, pixels) -> None:
    """Have images of two cameras, and checks for these groups."""
    cameras = np.array(
        [(name,) for name in np.where(rear, "rear", "front")], dtype=[("camera", "U5")]
    )
    arrays = {"images": pixels, "labels": images_of().labels.numpy(), "classes": np.array(CLASSES)}
    np.savez(zoo.root / "zoo.npz", **arrays, groups=cameras)
    zoo.images = load_images(zoo.data)
    zoo.bind(CLEAN + SLICES)
    groups = f'[data]\ngroups_sha256 = "{groups_sha256(zoo.images.groups)}"\n'
    zoo.checks.write_text(zoo.checks.read_text().replace("[data]\n", groups))


def rows_can_be_copied(page: str, zoo) -> None:
    """Assert that the checks file reads each row to copy as the check that it is of."""
    rows = [html.unescape(row) for row in re.findall(r'data-copy="(\[\[check\]\][^"]*)"', page)]
    before, file = read_checks(zoo.checks).written, zoo.root / "copied.toml"
    file.write_text("\n".join([zoo.checks.read_text(), *rows]))
    found = {check.id: check for check in read_checks(file).written[len(before) :]}
    assert len(found) == len(rows) > len(before)
    for check in before:
        copy = found[f"{check.id}-copy"]
        assert (copy.family, copy.metric, copy.keys, copy.hand) == (
            check.family,
            check.metric,
            check.keys,
            check.hand,
        )


@pytest.mark.zoo(tests=("clean", "slices", "class_difference"))
def test_the_group_that_is_served_badly_fails_by_name(zoo):
    """Every third image comes from a camera at the rear, which sees little but noise."""
    pixels, rear = images_of().pixels[:, 0].numpy().copy(), np.arange(400) % 3 == 0
    pixels[rear] = pixels[rear] // 8 + 100
    rear_camera(zoo, rear, pixels)
    result = zoo.run(page=True)
    assert result.ret == 1
    failing = ("slice-rear", "difference-rear", "worst-camera", "gap-camera")
    passing = {
        "clean": "pass",
        "class": "informational",
        "slice-front": "pass",
        "difference-cat": "pass",
    }
    assert zoo.statuses == {**passing, **dict.fromkeys(failing, "fail")}
    found = {check["id"]: check for check in zoo.report()["checks"]}
    assert found["slice-rear"]["n"] == 134
    assert found["worst-camera"]["value"] == found["slice-rear"]["value"]
    assert found["worst-camera"]["detail"] == "worst of 2 groups by camera: rear, 134 images"
    gap = found["slice-front"]["value"] - found["slice-rear"]["value"]
    assert found["gap-camera"]["value"] == pytest.approx(gap)
    result.stdout.fnmatch_lines(["*slice-rear: group accuracy 0.* < threshold 0.8000 (n=134,*"])
    page = (zoo.root / "reports/stress.html").read_text()
    assert 'id="report-slices"' in page
    assert "Accuracy by camera" in page
    rows_can_be_copied(page, zoo)
    zoo.checks.write_text(
        zoo.checks.read_text().replace("groups_sha256 =", 'groups_sha256 = "old" #')
    )
    result = zoo.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*was made for other groups; the data have camera (front 266, rear 134).*"]
    )


@pytest.mark.zoo(tests=("clean", "slices"))
def test_a_row_of_a_group_without_images_is_not_applicable(zoo):
    rear_camera(zoo, np.arange(400) == 0, images_of().pixels[:, 0].numpy())
    zoo.run("--stress-samples", "8")
    assert (zoo.statuses["slice-rear"], zoo.report()["verdict"]) == ("not_applicable", "partial")


# Skews.

SKEWS = ("video-range", "divide-256", "normalise-half", "bgr", "crop-right-1")


def skewed(*names: str) -> str:
    return CLEAN + "".join(
        row_of(f"skew-{name}", "skew", "served_correct_predictions_lost", f'skew = "{name}"', 0.05)
        + row_of(f"skew-{name}-changed", "skew", "served_predictions_changed", f'skew = "{name}"')
        for name in names
    )


def test_a_skew_that_costs_too_much_fails_by_name(gate):
    ran = gate.once(rows=skewed(*SKEWS), page=True)
    assert ran.statuses["skew-bgr"] == "not_applicable"
    assert ran.statuses["skew-divide-256"] == "pass"
    judged = {name: ran.checks[f"skew-{name}"] for name in SKEWS if name != "bgr"}
    for name, check in judged.items():
        assert check["status"] == ("fail" if check["value"] > 0.05 else "pass"), name
    assert any(check["status"] == "fail" for check in judged.values())
    assert ran.ending == (1, "fail")
    pipeline = ran.report["data"]["pipeline"]
    assert pipeline.startswith("pixels of the data, gray, size unchanged, uncropped, /255")
    section = ran.page[ran.page.index('id="report-serving"') :]
    lost = {name: check["value"] for name, check in judged.items() if check["value"] > 0}
    places = [
        section.index(judged[name]["detail"])
        for name in sorted(lost, key=lambda name: -lost[name])[:5]
    ]
    assert places == sorted(places)
    worst = max(judged.values(), key=lambda check: check["value"])
    assert worst["detail"] in ran.summary
    assert pipeline in ran.page


def test_an_unknown_skew_ends_the_run_with_4(gate):
    ran = gate.once(rows=skewed("jpeg-10"))
    assert ran.ending == (4, "error")
    ran.stdout.fnmatch_lines(["*skew*jpeg-10*"])


@pytest.fixture
def photographs(zoo):
    """The zoo with its images in PNG files that EXIF turns upright."""
    images = images_of()
    for position in range(len(images)):
        folder = zoo.root / "photos" / CLASSES[int(images.labels[position])]
        folder.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 3
        turned = np.ascontiguousarray(images.pixels[position, 0].numpy()[::-1, ::-1])
        Image.fromarray(turned).save(folder / f"{position:04}.png", exif=exif)
    zoo.data = f"folder:{zoo.root / 'photos'}"
    zoo.images = load_images(zoo.data)
    return zoo


@pytest.mark.zoo(tests=("clean", "skew"))
def test_photographs_are_served_from_their_bytes(photographs):
    photographs.bind(skewed("exif", "jpeg-75", "decode-opencv"))
    photographs.run("--stress-set", f"data={photographs.data}")
    found = {check["id"]: check for check in photographs.report()["checks"]}
    assert found["skew-exif-changed"]["value"] > 0.1
    assert "served with EXIF ignored, it would lose" in found["skew-exif"]["detail"]
    assert found["skew-jpeg-75"]["status"] in {"pass", "fail"}
    assert found["skew-decode-opencv"]["status"] == "not_applicable"
    assert "decoders differ on JPEG" in found["skew-decode-opencv"]["detail"]


SERVER = """
import io

import numpy as np
from PIL import Image, ImageOps

means = np.load("means.npy")

def answer(files):
    pictures = [{opened} for file in files]
    pixels = np.stack([np.asarray(each.convert("L"), np.float32) for each in pictures]) / 255
    features = pixels.reshape(len(files), 8, 2, 8, 2).max(axis=(2, 4)).reshape(len(files), -1)
    return 20 * features @ means.T - 10 * np.square(means).sum(axis=1)

answer.pixels = "encoded"
"""


@pytest.mark.processes
@pytest.mark.zoo(tests=("clean", "equivalence"))
@pytest.mark.parametrize(
    ("opened", "status"),
    [
        ("ImageOps.exif_transpose(Image.open(io.BytesIO(file)))", "pass"),
        ("Image.open(io.BytesIO(file))", "fail"),
    ],
    ids=["upright", "as stored"],
)
def test_a_served_system_is_held_to_its_model_with_its_decoder(photographs, opened, status):
    np.save(photographs.root / "means.npy", (network().fc1.weight / 20).detach().numpy())
    (photographs.root / "serve.py").write_text(SERVER.format(opened=opened))
    photographs.bind(
        row_of("equivalence-clean", "equivalence", "predictions_changed", "tolerance = 0.02")
    )
    options = (
        "--candidate=python:serve:answer",
        "--original=models/augmented.safetensors",
        "--incumbent=none",
    )
    photographs.run(
        "--stress-set", f"data={photographs.data}", *options, "-k", "few_predictions_change"
    )
    assert photographs.statuses["equivalence-clean"] == status


# Images of no class.

SHUFFLED = 'unknown = "patch-shuffled"\nscore = '
FREE = row_of("shuffled", "unknown", "unknown_auroc", f'{SHUFFLED}"softmax"', 0.6)
FREE += row_of("shuffled-flagged", "unknown", "unknown_fpr95", f'{SHUFFLED}"energy"')
ELSEWHERE = row_of(
    "elsewhere", "unknown", "unknown_auroc", 'unknown = "elsewhere"\nscore = "softmax"'
)
CARS = ("--stress-set", "unknown=folder:cars")


def pictures(folder, count=12, *, size=(40, 20), nested=True):
    """Write pictures of another size, in color, some of them in a subfolder."""
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for at in range(count):
        place = folder / "more" if nested and at % 2 else folder
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(place / f"{at}.png")
    (folder / "notes.txt").write_text("none")
    return folder


def test_free_images_are_judged_and_elsewhere_is_not_applicable(gate):
    ran = gate.once(rows=CLEAN + FREE + ELSEWHERE)
    assert ran.ending == (0, "pass")
    assert (ran.statuses["shuffled"], ran.checks["shuffled"]["n"]) == ("pass", 400)
    assert (ran.statuses["shuffled-flagged"], ran.statuses["elsewhere"]) == (
        "informational",
        "not_applicable",
    )
    assert "name some with" in ran.checks["elsewhere"]["detail"]
    assert (
        gate.once("--candidate", "blind.safetensors", rows=CLEAN + FREE).statuses["shuffled"]
        == "fail"
    )


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "1"), marks=pytest.mark.processes)])
def test_a_folder_of_pictures_is_measured(gate, workers):
    """A row that names no images is an error, and an image that is not the row's."""
    about = load_elsewhere(f"folder:{gate.root / 'cars'}", gate.images, Pipeline())
    rows = CLEAN + ELSEWHERE + f'sha256 = "{about.sha256}"\n'
    ran = gate.once(*CARS, *workers, rows=rows)
    assert ran.ending == (0, "pass")
    assert (ran.statuses["elsewhere"], ran.checks["elsewhere"]["n"]) == ("informational", 200 + 12)
    ran = gate.once(*CARS, rows=rows.replace(about.sha256[:4], "0000"))
    assert ran.ret == 4
    ran.stderr.fnmatch_lines(["*sha256 is*calibrate it for these*"])


def test_a_file_like_the_data_is_taken_and_a_row_names_its_images(gate):
    np.savez(
        gate.root / "other.npz", images=np.zeros((7, 16, 16), np.uint8), labels=np.arange(7) % 2
    )
    unnamed = FREE.replace('unknown = "patch-shuffled"\n', "")
    ran = gate.once("--stress-set", "unknown=npz:other.npz", rows=CLEAN + unnamed + ELSEWHERE)
    assert ran.ending == (4, "error")
    assert (ran.checks["elsewhere"]["n"], ran.statuses["shuffled"]) == (207, "error")


def test_labels_of_images_from_elsewhere_do_not_count(gate, tmp_path):
    folder = pictures(tmp_path / "cars", nested=False)
    (folder / "groups.csv").write_text("of something else\n")
    flat = load_elsewhere(f"folder:{folder}", gate.images, Pipeline())
    assert flat.pixels.shape == (12, 1, 16, 16)
    assert set(flat.labels.tolist()) == {-1}
    assert flat.classes == gate.images.classes


@pytest.mark.parametrize(
    ("spec", "rows", "record", "said"),
    [
        ("folder:nowhere", ELSEWHERE, None, "*unknown folder:nowhere*no pictures in it*"),
        ("folder:empty", ELSEWHERE, None, "*unknown folder:empty*no pictures in it*"),
        ("cars", ELSEWHERE, None, "*unknown cars*unknown data*"),
        ("fashion-mnist", ELSEWHERE, None, "*unknown fashion-mnist*has images of 28x28 pixels*"),
        (
            "folder:cars",
            "",
            None,
            "*no check of*measures them; run `stress-harness init --families unknown`, or add*",
        ),
        ("folder:cars", FREE, None, "*unknown: *no check of*measures them; add a check of family*"),
        ("folder:cars", ELSEWHERE, "unknown", "*its threshold is for certain images*sha256 = *"),
    ],
)
def test_images_that_cannot_be_used_end_with_4(gate, spec, rows, record, said):
    ran = gate.once("--stress-set", f"unknown={spec}", rows=CLEAN + rows, record=record)
    assert ran.ret == 4
    ran.stderr.fnmatch_lines([said])


def test_without_a_row_these_families_cost_nothing(gate):
    families = {check["family"] for check in gate.once(rows=ROWS.split("\n\n")[0]).report["checks"]}
    assert families == {"clean", "class", "flips"}
