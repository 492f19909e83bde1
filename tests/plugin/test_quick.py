"""The quick profile: checks of its own, made for a sample, give a whole verdict on fewer images by fewer tests."""

from dataclasses import replace

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
from zoo import ROWS, STRESS_TESTS, TRAINING, GatedZoo, checks_text, hypothesis_as_it_starts, run_here

from harness.calibration.panel import read_panel
from harness.checks import ChecksError, read_checks
from harness.cli import main

SAMPLE = 100
CLEAN, CLASS, ROTATION, CONFIDENCE = ("\n[[check]]" + row for row in ROWS.split("\n[[check]]")[1:])
QUICK = CLEAN + CLASS + CONFIDENCE.replace("threshold = 10", "threshold = 3")
"""Check of the quick gate of these tests; the full one has a rotation, too."""


class QuickZoo(GatedZoo):
    """The zoo with a checks file for the quick profile."""

    def __init__(self, pytester) -> None:
        super().__init__(pytester)
        self.quick = self.tests / "checks-quick.toml"
        self.bind_quick(QUICK)

    def bind_quick(self, rows, *, sample: object = SAMPLE) -> None:
        """Write the quick profile's checks file."""
        data = f"n = {len(self.images)}\nsample = {sample}\n"
        self.quick.write_text(checks_text(self.images, rows).replace(f"n = {len(self.images)}\n", data))


@pytest.fixture
def zoo(pytester, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with hypothesis_as_it_starts():
        yield QuickZoo(pytester)


# A verdict of its own.


def test_the_quick_profile_takes_its_own_checks_and_gives_a_whole_verdict(zoo):
    result = zoo.run("--stress-profile", "quick")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*PASS (quick profile): 3 of 3 checks pass"])
    report = zoo.report()
    assert (report["verdict"], report["profile"], report["omissions"]) == ("pass", "quick", [])
    assert report["data"]["n"] == SAMPLE
    assert [check["id"] for check in report["checks"]] == ["clean", "clean-bee", "confident-errors"]
    assert {check["n"] for check in report["checks"]} == {SAMPLE, SAMPLE // 4}
    assert report["overview"] is None


def test_the_reports_say_what_was_left_out(zoo):
    result = zoo.run("--stress-profile", "quick", page=True)
    scope = (
        "quick profile: 3 checks, made for a sample of 100 of 400 images; left out are 1 of the default profile's 4 "
        "checks (all of rotation) and the comparison of the models"
    )
    result.stdout.fnmatch_lines([scope])
    assert zoo.report()["scope"] == scope
    assert f"- {scope}" in (zoo.root / "reports/stress.md").read_text()
    page = (zoo.root / "reports/stress.html").read_text()
    assert "augmented.safetensors passes all 3 quick checks; only the full gate can say that it is fit to ship." in page
    assert "of the default profile&#39;s 4 checks (all of rotation)" in page


def test_the_default_profile_says_nothing_of_the_kind(zoo):
    zoo.run(page=True)
    assert (zoo.report()["profile"], zoo.report()["scope"]) == ("default", "")
    assert "augmented.safetensors is fit to ship" in (zoo.root / "reports/stress.html").read_text()


def test_a_worse_model_fails(zoo):
    zoo.save("worse.safetensors", jitter=3.0)
    result = zoo.run("--stress-profile", "quick", "--candidate", "worse.safetensors")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*FAIL (quick profile): * of 3 checks pass; worse: clean*"])
    assert zoo.report()["verdict"] == "fail"


def test_thresholds_made_for_the_sample_have_no_leniency(zoo):
    """90% of the sample are correct, and the interval reaches to 94.5%."""
    zoo.bind_quick(QUICK.replace("threshold = 0.85", "threshold = 0.94"))
    assert zoo.run("--stress-profile", "quick").ret == 1
    (clean, *_) = zoo.report()["checks"]
    assert clean["value"] < 0.94 < clean["interval"][1]
    assert (clean["status"], clean["threshold"]) == ("fail", 0.94)


def test_counts_keep_the_threshold_that_was_made_for_the_sample(zoo):
    zoo.run("--stress-profile", "quick")
    assert zoo.report()["checks"][2]["threshold"] == 3


def test_tests_without_a_row_do_not_run(zoo):
    result = zoo.run("--stress-profile", "quick")
    result.assert_outcomes(passed=3, deselected=1)


def test_self_checks_ask_the_families_that_are_there(zoo):
    zoo.run("--stress-profile", "quick")
    checks = {check["name"]: check for check in zoo.report()["self_checks"]}
    assert checks["identity-equals-clean"]["status"] == "pass"
    assert checks["left-half-blanked"]["status"] == "pass"
    assert "check clean of family 'clean' notices" in checks["left-half-blanked"]["detail"]
    assert checks["turned-020"]["status"] == "not_applicable"


def test_checks_that_cannot_fail_end_with_4(zoo):
    zoo.bind_quick(QUICK.replace("threshold = 0.85", "threshold = 0.01"))
    result = zoo.run("--stress-profile", "quick")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*self-check left-half-blanked:*"])


def test_a_test_deselected_by_hand_leaves_a_partial_verdict(zoo):
    assert zoo.run("--stress-profile", "quick", "-k", "not bee").ret == 0
    report = zoo.report()
    said = "1 of 3 checks did not run: clean-bee; no test ran of family class"
    assert (report["verdict"], report["omissions"]) == ("partial", [said])


# Other checks, other samples, other profiles.


def test_checks_made_for_all_images_leave_the_quick_profile_partial(zoo):
    options = ("--stress-profile", "quick", "--stress-samples", str(SAMPLE))
    assert zoo.run(*options, "--checks", "stress_tests/checks.toml").ret == 0
    named = zoo.report()
    assert (named["verdict"], named["omissions"]) == ("partial", ["100 of 400 images were measured"])
    zoo.quick.unlink()
    assert zoo.run(*options).ret == 0
    by_default = zoo.report()
    assert by_default["verdict"] == "partial"
    assert [check["id"] for check in by_default["checks"]] == [
        "clean",
        "clean-bee",
        "rotate-ccw-010",
        "confident-errors",
    ]


@pytest.mark.parametrize("samples", [50, 200], ids=["fewer", "more"])
def test_another_sample_than_the_checks_were_made_for_is_partial(zoo, samples):
    assert zoo.run("--stress-profile", "quick", "--stress-samples", str(samples)).ret == 0
    report = zoo.report()
    assert report["verdict"] == "partial"
    assert report["omissions"] == [f"{samples} of 400 images were measured; the checks are made for a sample of 100"]


@pytest.mark.parametrize("options", [(), ("--stress-profile", "thorough"), ("--stress-samples", "100")])
def test_checks_made_for_a_sample_are_refused_in_another_profile(zoo, options):
    result = zoo.run("--checks", "stress_tests/checks-quick.toml", *options)
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "*checks-quick.toml: made for the quick profile's sample of 100 images, * with all 400. "
            "Add --stress-profile quick, or name*"
        ]
    )


def test_checks_of_other_data_are_refused(zoo):
    zoo.quick.write_text(zoo.quick.read_text().replace(zoo.images.sha256, "0" * 64))
    result = zoo.run("--stress-profile", "quick")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*checks-quick.toml: made for other data*"])


@pytest.mark.parametrize("sample", [0, -1, 401])
def test_a_sample_that_cannot_be_drawn_is_refused(zoo, sample):
    zoo.bind_quick(QUICK, sample=sample)
    with pytest.raises(ChecksError, match=rf"\[data\] sample is {sample}, expected a number from 1 to n, 400"):
        read_checks(zoo.quick)


@pytest.mark.parametrize("sample", ["true", '"all"', "2.5"])
def test_a_sample_that_is_no_whole_number_is_refused(zoo, sample):
    zoo.bind_quick(QUICK, sample=sample)
    with pytest.raises(ChecksError, match=r"data: sample is .*, expected a whole number"):
        read_checks(zoo.quick)


# Its thresholds.


def test_calibration_measures_the_sample_into_the_panel_of_the_file(zoo, monkeypatch):
    runs = []
    run_here(monkeypatch, zoo.pytester, runs)
    rows = "\n".join(line for line in QUICK.splitlines() if not line.startswith("hand"))
    zoo.bind_quick('\n[recipe]\npanel = "models/of-its-own.json"\n' + rows)
    seeds = [
        zoo.save(f"seed-{seed}.safetensors", seed=seed, jitter=0.02, training={**TRAINING, "seed": seed}).name
        for seed in range(1, 9)
    ]
    named = ("--checks", "stress_tests/checks-quick.toml", "--checkpoints", *seeds)
    assert main(["calibrate", *named, "--", "--stress-set", f"data={zoo.data}"]) == 0
    assert len(runs) == 8
    checks = read_checks(zoo.quick)
    panel = read_panel(zoo.root / "models/of-its-own.json", checks)
    assert {row.id: row.n for row in panel.checks} == {
        "clean": SAMPLE,
        "clean-bee": SAMPLE // 4,
        "confident-errors": 100,
    }
    assert [check.id for check in checks.checks] == ["clean", "clean-bee", "confident-errors"], "no row came to it"
    assert checks.data.sample == SAMPLE
    assert checks.recipe["panel"] == "models/of-its-own.json"
    assert not (zoo.root / "models/panel.json").exists()


# The shipped file.

SHIPPED_QUICK, SHIPPED_FULL = STRESS_TESTS / "checks-quick.toml", STRESS_TESTS / "checks.toml"


def test_the_shipped_quick_checks_have_the_data_and_panel_of_all():
    quick, full = read_checks(SHIPPED_QUICK), read_checks(SHIPPED_FULL)
    assert replace(quick.data, sample=None, samples={}) == full.data
    assert quick.data.sample == 2_000
    assert [quick.data.size_of(name) for name in ("clean", "consensus")] == [2_000, 10_000]
    for fact in ("seeds", "training", "panel_predictions", "panel_predictions_sha256"):
        assert quick.recipe[fact] == full.recipe[fact]
    assert quick.recipe["panel"] != full.recipe["panel"]


def test_the_shipped_quick_checks_measure_the_same_under_the_same_names():
    quick, full = ({check.definition for check in read_checks(path).checks} for path in (SHIPPED_QUICK, SHIPPED_FULL))
    own = {check.id for check in read_checks(SHIPPED_QUICK).checks} - {
        check.id for check in read_checks(SHIPPED_FULL).checks
    }
    assert len(quick - full) == len(own)
    assert len(own) < len(quick) / 2


def test_every_shipped_quick_row_has_a_threshold():
    assert [check.id for check in read_checks(SHIPPED_QUICK).checks if check.binding is None] == []
