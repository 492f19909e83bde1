"""A metric is added as its page says: one file, and rows."""

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
from test_docs import blocks_of
from zoo import ROWS, TRAINING, GatedZoo, run_here

from harness.calibration.panel import read_panel
from harness.checks import read_checks
from harness.cli import main

pytestmark = pytest.mark.usefixtures("unchecked")
PAGE = "add-metric.md"


@pytest.fixture
def zoo(pytester, monkeypatch, tmp_path):
    """The zoo, with what the page says to write in its files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    zoo = GatedZoo(pytester)
    zoo.bind(ROWS)
    for block in blocks_of(PAGE):
        how, _, name = block.mark.partition(": ")
        if how in {"file", "append"}:
            path = zoo.root / name
            path.write_text((path.read_text() if how == "append" else "") + block.text)
    return zoo


def test_it_is_measured_and_told_in_its_words(zoo):
    assert zoo.run().ret == 0
    found = {
        check["id"]: check for check in zoo.report()["checks"] if check["family"] == "hesitation"
    }
    assert {name: (check["status"], check["direction"]) for name, check in found.items()} == {
        "close-calls": ("informational", "at_most"),
        "close-calls-ccw-010": ("informational", "at_most"),
    }
    assert found["close-calls"]["value"] < found["close-calls-ccw-010"]["value"], (
        "turned images are harder"
    )
    zoo.checks.write_text(f"{zoo.checks.read_text()}hand = {{ threshold = 0.001 }}\n")
    assert zoo.run("-k", "close", page=True).ret == 1
    assert "predictions by a hair" in (zoo.root / "reports/stress.html").read_text()


def test_calibration_sets_ceilings(zoo, monkeypatch):
    run_here(monkeypatch, zoo.pytester, [])
    seeds = [
        zoo.save(
            f"seed-{seed}.safetensors", seed=seed, jitter=0.02, training={**TRAINING, "seed": seed}
        ).name
        for seed in range(1, 5)
    ]
    assert (
        main(["calibrate", "--checkpoints", *seeds, "--", "--stress-set", "data=npz:zoo.npz"]) == 0
    )
    panel = read_panel(zoo.root / "models/panel.json")
    rows = panel.family("hesitation")
    assert [(row.metric, row.direction) for row in rows] == [("close_calls", "at_most")] * 2
    checks = read_checks(zoo.checks).family("hesitation")
    assert [check.direction for check in checks] == [None, None], (
        "the file need not say it, since the metric does"
    )
    assert all(panel.values(rows).max(axis=0) < [check.panel.threshold for check in checks])


def test_a_direction_that_contradicts_it_ends_with_4(zoo):
    zoo.checks.write_text(f'{zoo.checks.read_text()}direction = "at_least"\n')
    result = zoo.run()
    assert result.ret == 4
    result.stdout.fnmatch_lines(
        ['*check close-calls-ccw-010: for close_calls, less is better; write direction = "at_mo*']
    )
