"""Results of self-checks are reused when all that decides them is equal, and not otherwise."""

import importlib
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn
from zoo import ROWS, checks_text, images_of, network, role_model

import harness
from harness.base import imports
from harness.base.cache import Store
from harness.checks import read_checks
from harness.inference.platforms import measuring_code
from harness.run.budget import FEWEST, FREE_PASSES, affordable_passes, extent_of
from harness.run.findings import SelfCheck
from harness.run.self_checks import Memory, memory_of
from harness.run.session import OtherImages, StressSession


class Untraceable(nn.Module):
    def forward(self, pixels):
        return pixels.flatten(1)[:, :4] * (2 if pixels.sum() > 0 else 1)


def session_of(folder: Path, *, model=None, rows=ROWS, count=40) -> StressSession:
    images, path = images_of(count), folder / "checks.toml"
    path.write_text(checks_text(images, rows))
    cache = Store(folder / "cache")
    return StressSession(
        images, read_checks(path), {"candidate": role_model(model=model)}, cache=cache
    )


class Counted:
    def __init__(self, status) -> None:
        self.status, self.times = status, 0

    def __call__(self) -> SelfCheck:
        self.times += 1
        return SelfCheck("blind", self.status, "as found")


@pytest.mark.parametrize(("status", "times"), [("pass", 1), ("not_applicable", 1), ("fail", 2)])
def test_what_holds_is_remembered_and_what_fails_is_not(tmp_path, status, times):
    memory, check = memory_of(session_of(tmp_path), ["row"]), Counted(status)
    assert memory.remembered("blind", check) == memory.remembered("blind", check)
    assert check.times == times


def test_a_damaged_entry_counts_as_absent(tmp_path):
    memory, check = memory_of(session_of(tmp_path), ["row"]), Counted("pass")
    memory.remembered("blind", check)
    (entry,) = (tmp_path / "cache").glob("*.entry")
    entry.write_bytes(entry.read_bytes()[:-1] + b" ")
    memory.remembered("blind", check)
    assert check.times == 2


@pytest.mark.parametrize("what", ["model", "images", "checks", "tests", "name", "groups"])
def test_whatever_decides_it_has_it_checked_anew(tmp_path, what):
    def with_groups(name):
        images = replace(images_of(8), groups={"camera": np.repeat(name, 8)})
        return replace(
            session_of(tmp_path), other_images=OtherImages(of_rows={"unlabeled": images})
        )

    check, before = Counted("pass"), with_groups("a") if what == "groups" else session_of(tmp_path)
    memory_of(before, ["row"]).remembered("blind", check)
    changed = {
        "model": lambda: session_of(tmp_path, model=network(jitter=0.1)),
        "images": lambda: session_of(tmp_path, count=41),
        "checks": lambda: session_of(tmp_path, rows=ROWS.replace("0.85", "0.84")),
        "groups": lambda: with_groups("b"),
    }.get(what, lambda: session_of(tmp_path))()
    memory = memory_of(changed, ["other" if what == "tests" else "row"])
    memory.remembered("other" if what == "name" else "blind", check)
    assert check.times == 2
    assert (changed.inputs == before.inputs) == (what not in {"images", "checks", "groups"})


def test_of_a_model_that_cannot_be_traced_nothing_is_remembered(tmp_path):
    assert memory_of(session_of(tmp_path, model=Untraceable()), ["row"]) == Memory()


def test_code_is_that_of_the_tests_and_what_they_import(tmp_path, monkeypatch):
    """A helper that a test imports when it runs counts, too."""
    (tmp_path / "own.py").write_text("thing = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own", raising=False)
    importlib.import_module("own")
    memory, check = memory_of(session_of(tmp_path), ["row"]), Counted("pass")
    for _ in range(2):
        memory.remembered("blind", check)
    assert check.times == 1
    (tmp_path / "own.py").write_text("thing = 2\n")
    monkeypatch.delitem(sys.modules, "own")
    imports.begin()
    memory.remembered("blind", check)
    assert check.times == 2


@pytest.mark.parametrize(
    "name",
    ["stress_tests/test_clean.py", "harness/measures/accuracy.py", "harness/run/self_checks.py"],
)
def test_a_packaged_test_and_a_metric_decide(tmp_path, monkeypatch, name):
    here = Path(harness.__file__).parents[1]
    for folder in ("harness", "stress_tests"):
        shutil.copytree(
            here / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.gz", "__pycache__")
        )
    before = measuring_code(tmp_path / "harness")
    (tmp_path / "harness/report/html.py").write_text("")
    (tmp_path / "harness/calibration/thresholds.py").write_text("")
    measuring_code.cache_clear()
    assert measuring_code(tmp_path / "harness") == before
    (tmp_path / name).write_text((tmp_path / name).read_text() + "\n")
    measuring_code.cache_clear()
    assert measuring_code(tmp_path / "harness") != before


def test_large_images_are_looked_at_only_as_the_rows_ask(tmp_path):
    session = session_of(tmp_path)
    assert extent_of(session).damaged > 1_000
    pixels = session.images.pixels.new_zeros(1, 1, 1, 1).expand(len(session.images), 3, 224, 224)
    large = replace(session, images=replace(session.images, pixels=pixels))
    assert affordable_passes(session) == FREE_PASSES
    assert affordable_passes(large) == 312
    assert extent_of(large).corners == FEWEST


def test_another_checkout_with_other_tests_remembers_nothing(tmp_path, monkeypatch):
    check = Counted("pass")
    for content in ("a", "b", "a"):
        monkeypatch.setattr(
            "harness.base.imports.ran", lambda content=content: {f"/{content}/test_own.py": content}
        )
        memory_of(session_of(tmp_path), ["row"]).remembered("blind", check)
    assert check.times == 2
