"""A model that another pipeline serves badly fails by the name of the skew, and the report orders skews by loss."""

import numpy as np
import pytest
from PIL import Image
from zoo import CLASSES, ROWS, GatedZoo, images_of, network

from harness.data import load_images

SKEWS = ("video-range", "divide-256", "normalise-half", "bgr", "crop-right-1")
ROW = """
[[check]]
id = "skew-{0}"
family = "skew"
metric = "served_correct_predictions_lost"
skew = "{0}"
hand = {{ threshold = 0.05 }}

[[check]]
id = "skew-{0}-changed"
family = "skew"
metric = "served_predictions_changed"
skew = "{0}"
"""
CLEAN = ROWS.split("\n\n")[0]


@pytest.fixture
def zoo(pytester):
    zoo = GatedZoo(pytester, tests=("clean", "skew"))
    zoo.bind(CLEAN + "".join(map(ROW.format, SKEWS)))
    return zoo


def test_a_skew_that_costs_too_much_fails_by_name(zoo):
    result = zoo.run(page=True)
    report = zoo.report()
    found = {check["id"]: check for check in report["checks"]}
    assert found["skew-bgr"]["status"] == "not_applicable"
    assert found["skew-divide-256"]["status"] == "pass"
    judged = {name: found[f"skew-{name}"] for name in SKEWS if name != "bgr"}
    for name, check in judged.items():
        assert check["status"] == ("fail" if check["value"] > 0.05 else "pass"), name
    assert any(check["status"] == "fail" for check in judged.values())
    assert result.ret == 1
    assert report["data"]["pipeline"].startswith("pixels of the data, gray, size unchanged, uncropped, /255")
    page = (zoo.root / "reports/stress.html").read_text()
    section = page[page.index('id="report-serving"') :]
    lost = {name: check["value"] for name, check in judged.items() if check["value"] > 0}
    costly = sorted(lost, key=lambda name: -lost[name])[:5]
    places = [section.index(judged[name]["detail"]) for name in costly]
    assert places == sorted(places)
    assert report["data"]["pipeline"] in page
    summary = (zoo.root / "reports/stress.md").read_text()
    assert report["data"]["pipeline"] in summary
    worst = max(judged.values(), key=lambda check: check["value"])
    assert worst["detail"] in summary


@pytest.mark.parametrize("options", ["--stress-no-cache", pytest.param("-n2", marks=pytest.mark.faults)])
def test_serial_and_parallel_runs_measure_the_same_bits(zoo, options):
    def values(*options):
        zoo.run(*options)
        return {check["id"]: (check["value"], check["detail"]) for check in zoo.report()["checks"]}

    assert values() == values(options)


@pytest.fixture
def photographs(pytester):
    """The zoo with its images in PNG files that EXIF turns upright."""
    zoo = GatedZoo(pytester, tests=("clean", "skew", "equivalence"))
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


def test_photographs_are_served_from_their_bytes(photographs):
    zoo = photographs
    zoo.bind(CLEAN + "".join(map(ROW.format, ("exif", "jpeg-75", "decode-opencv"))))
    zoo.run("--stress-set", f"data={zoo.data}")
    found = {check["id"]: check for check in zoo.report()["checks"]}
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
EQUAL = """
[[check]]
id = "equivalence-clean"
family = "equivalence"
metric = "predictions_changed"
tolerance = 0.02
reason = "a server is the model"
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("opened", "status"),
    [("ImageOps.exif_transpose(Image.open(io.BytesIO(file)))", "pass"), ("Image.open(io.BytesIO(file))", "fail")],
    ids=["upright", "as stored"],
)
def test_a_served_system_is_held_to_its_model_with_its_decoder(photographs, opened, status):
    zoo = photographs
    np.save(zoo.root / "means.npy", (network().fc1.weight / 20).detach().numpy())
    (zoo.root / "serve.py").write_text(SERVER.format(opened=opened))
    zoo.bind(EQUAL)
    options = ("--candidate=python:serve:answer", "--original=models/augmented.safetensors", "--incumbent=none")
    zoo.run("--stress-set", f"data={zoo.data}", *options, "-k", "few_predictions_change")
    found = {check["id"]: check for check in zoo.report()["checks"]}
    assert found["equivalence-clean"]["status"] == status, found


def test_an_unknown_skew_ends_the_run_with_4(zoo):
    zoo.bind(CLEAN + ROW.format("jpeg-10"))
    result = zoo.run()
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*skew*jpeg-10*"])
