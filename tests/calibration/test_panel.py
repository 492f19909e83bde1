"""The panel of reference models is kept as a file that is read strictly."""

import json
from dataclasses import replace

import numpy as np
import pytest
from panels import check, panel_of

from harness.base.errors import InputError
from harness.calibration.panel import read_panel
from harness.checks import read_checks

ROWS = (
    check("clean", family="clean"),
    check("ccw-010"),
    check("pair-a-b", family="pairs", unit="images"),
    check("cw-010"),
    check("gain", family="gain", unit="difference"),
)
VALUES = np.arange(40.0).reshape(8, 5) / 40
CHECKS = (
    'schema = 2\nprotocol = 1\n[data]\nname = "toy"\nsplit = "test"\nsha256 = "{sha256}"\n'
    "n = 10000\n"
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "models" / "panel.json"
    path.parent.mkdir()
    path.write_bytes(panel_of(VALUES, ROWS).as_bytes())
    return path


def test_a_panel_is_read_as_it_was_written(path, tmp_path):
    assert read_panel(path) == panel_of(VALUES, ROWS)
    assert [file.name for file in path.parent.iterdir()] == ["panel.json"]
    assert json.loads(path.read_bytes())["schema"] == 2, "a file for other versions to read"
    edited(lambda content: [model.pop("curves") for model in content["models"]])(path)
    assert read_panel(path).curves() == {}
    with_curves(*[CURVE] * 8)(path)
    (curves,) = read_panel(path).curves().values()
    assert [curve.values for curve in curves] == [(0.5, None)] * 8
    values = np.random.default_rng(0).normal(size=(8, 3))
    (tmp_path / "panel.json").write_bytes(panel_of(values).as_bytes())
    read = read_panel(tmp_path / "panel.json")
    assert np.array_equal(read.values(read.checks), values)
    panel = panel_of(VALUES, ROWS)
    assert panel.families == ("clean", "rotation", "pairs", "gain")
    assert [r.id for r in panel.family("rotation")] == ["ccw-010", "cw-010"]
    assert panel.family("none-such") == ()
    assert np.array_equal(panel.values(panel.family("rotation")), VALUES[:, [1, 3]])
    assert [r.sign for r in ROWS] == [1, 1, -1, 1, 1]


def edited(change):
    def edit(path):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


CURVE = {"name": "reliability", "at": [0.5, 0.9], "values": [0.5, None], "counts": [10, 0]}


def with_curves(*curves):
    """Give the first models of a panel a curve each."""

    def change(content):
        for model, curve in zip(content["models"], curves, strict=False):
            model["curves"] = [curve]

    return edited(change)


MALFORMED = {
    "empty": lambda path: path.write_text(""),
    "no-json": lambda path: path.write_text(path.read_text()[:-30]),
    "no-utf-8": lambda path: path.write_bytes(b"\xff\xfe\xfd"),
    "a-list": lambda path: path.write_text("[1, 2]"),
    "other-schema": edited(lambda content: content.update(schema=1)),
    "no-schema": edited(lambda content: content.pop("schema")),
    "unknown-key": edited(lambda content: content.update(remark="mine")),
    "no-members": edited(lambda content: content.pop("models")),
    "checks-no-list": edited(lambda content: content.update(checks=3)),
    "unknown-key-of-a-check": edited(lambda content: content["checks"][0].update(pose=10)),
    "key-of-a-member-missing": edited(lambda content: content["models"][3].pop("sha256")),
    "value-missing": edited(lambda content: content["models"][3]["values"].pop("clean")),
    "value-no-number": edited(lambda content: content["models"][3]["values"].update(clean="good")),
    "value-not-finite": edited(
        lambda content: content["models"][3]["values"].update(clean=float("nan"))
    ),
    "unit-unknown": edited(lambda content: content["checks"][0].update(unit="furlongs")),
    "curve-of-one-model": with_curves(CURVE),
    "curve-of-fewer-points": with_curves(*[CURVE] * 7, CURVE | {"values": [0.5]}),
    "curve-of-fewer-counts": with_curves(*[CURVE] * 7, CURVE | {"counts": [10]}),
    "curve-not-finite": with_curves(*[CURVE] * 7, CURVE | {"values": [0.5, float("inf")]}),
    "direction-unknown": edited(lambda content: content["checks"][0].update(direction="above")),
}


@pytest.mark.parametrize("spoil", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_panel_is_refused_with_file_and_next_step(path, spoil):
    spoil(path)
    with pytest.raises(
        InputError, match=r"panel\.json: .*`stress-harness calibrate` makes (one|a panel)"
    ):
        read_panel(path)


@pytest.mark.parametrize("name", ["absent.json", "."], ids=["missing", "folder"])
def test_a_panel_that_cannot_be_read_is_refused_with_file_and_next_step(tmp_path, name):
    with pytest.raises(
        InputError, match=r"cannot be read \(.+\); `stress-harness calibrate` makes a panel"
    ):
        read_panel(tmp_path / name)


@pytest.mark.parametrize(("sha256", "fits"), [("abc", True), ("abd", False), ("abb", False)])
def test_a_panel_of_other_data_than_the_checks_is_refused(tmp_path, path, sha256, fits):
    (tmp_path / "checks.toml").write_text(CHECKS.format(sha256=sha256))
    checks = read_checks(tmp_path / "checks.toml")
    if fits:
        assert read_panel(path, checks).checks == ROWS
    else:
        with pytest.raises(
            InputError, match=r"panel\.json: .*SHA-256 abc, .*for ab[bd]; calibrate again"
        ):
            read_panel(path, checks)


@pytest.mark.parametrize(
    ("sample", "made_for", "message"),
    [
        (2_000, "", "measured on a sample of 2000 images, .* is for all"),
        (None, "sample = 2000", "on all images, .* is for a"),
    ],
    ids=["sample-for-all", "all-for-sample"],
)
def test_a_panel_of_another_sample_than_the_checks_is_refused(tmp_path, sample, made_for, message):
    panel = replace(panel_of(VALUES, ROWS), sample=sample)
    (tmp_path / "panel.json").write_bytes(panel.as_bytes())
    checks = tmp_path / "checks.toml"
    checks.write_text(f"{CHECKS.format(sha256=panel.data_sha256)}{made_for}\n")
    with pytest.raises(InputError, match=message):
        read_panel(tmp_path / "panel.json", read_checks(checks))


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_panel_of_another_protocol_is_refused(tmp_path, path, protocol):
    """Poses of another protocol have other pixels, so the numbers mean something else."""
    edited(lambda content: content.update(protocol=protocol))(path)
    (tmp_path / "checks.toml").write_text(CHECKS.format(sha256="abc"))
    with pytest.raises(InputError, match=r"panel\.json: .*protocol"):
        read_panel(path, read_checks(tmp_path / "checks.toml"))
