"""The example on photographs: each command of its page, on fewer and smaller images."""

import re
import shutil

import pytest
from test_docs import ROOT, Place, place

from harness.checks import read_checks

EXAMPLE = ROOT / "examples/photographs"
SMALLER = (
    (r"photographs\.py crops", "photographs.py crops --size 64 --count 140"),
    (r"(photographs\.py retrain \w+ \S+)", r"\1 --size 64 --count 210"),
    (r"img_size=224", "img_size=64"),
    (r"seed-\*\.pth", "seed-[1-3].pth"),
    (
        r"confidence --min-accuracy 0\.6",
        "confidence --min-accuracy 0.3",
    ),  # Of smaller pictures less is right.
)


@pytest.mark.photographs
def test_each_command_of_its_page_runs(tmp_path):
    for package in ("skimage", "timm", "torchvision"):
        pytest.importorskip(package)
    folder = tmp_path / "photographs"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "runs", "photos"))
    shop: Place = place(folder, ROOT, SMALLER)
    text = (EXAMPLE / "README.md").read_text("utf-8")
    commands = re.findall(r"<!-- run: photographs -->\n```sh\n(.*?)```", text, re.DOTALL)
    assert len(commands) == text.count("```sh") == 3
    for pattern, replacement in SMALLER:
        commands = [re.sub(pattern, replacement, block) for block in commands]
    for block in commands:
        shop.run(block, "examples/photographs/README.md")
    checks = read_checks(folder / "stress_tests/checks.toml")
    assert all(check.panel and check.panel.reference_models == 3 for check in checks.checks), (
        "calibrated"
    )
    assert shop.report()["verdict"] == "pass"
    found = {check["id"]: check["status"] for check in shop.report()["checks"]}
    assert found["clean"] == "pass"
    assert Place(folder / "vit", (), {}).report()["verdict"] == "pass"
