"""The quick profile.

Checks of its own, made for a sample, give a whole verdict on fewer images by fewer tests.
"""

from dataclasses import replace

import pytest
from zoo import ROWS, STRESS_TESTS, TRAINING, checks_text, run_here

from harness.calibration.panel import read_panel
from harness.checks import ChecksError, read_checks
from harness.cli import main

SAMPLE = 100
CLEAN, CLASS, ROTATION, CONFIDENCE = ("\n[[check]]" + row for row in ROWS.split("\n[[check]]")[1:])
QUICK = CLEAN + CLASS + CONFIDENCE.replace("threshold = 10", "threshold = 3")
"""Checks of the quick gate of these tests; the full one has a rotation, too."""
FILE = "stress_tests/checks-quick.toml"
PROFILE = ("--stress-profile", "quick")


def text_of(zoo, rows=QUICK, *, sample: object = SAMPLE, head: str = "") -> str:
    """Return a checks file for the quick profile."""
    data = f"n = {len(zoo.images)}\nsample = {sample}\n"
    return checks_text(zoo.images, head + rows).replace(f"n = {len(zoo.images)}\n", data)


@pytest.fixture(scope="module")
def gate(shared):
    (shared.root / FILE).write_text(text_of(shared))
    return shared


# A verdict of its own.


def test_the_quick_profile_takes_its_own_checks_and_says_what_is_left(gate):
    ran = gate.once(*PROFILE, page=True)
    assert ran.ending == (0, "pass")
    scope = (
        "quick profile: 3 checks, made for a sample of 100 of 400 images; left out are 1 of the "
        "default profile's 4 checks (all of rotated images) and the comparison of the models"
    )
    ran.stdout.fnmatch_lines(["*PASS (quick profile): 3 of 3 checks pass"])
    ran.stdout.fnmatch_lines([scope])
    outcomes = ran.parseoutcomes()
    assert (outcomes["passed"], outcomes["deselected"]) == (3, 1), (
        "a test without a row does not run"
    )
    report = ran.report
    assert (report["profile"], report["omissions"], report["scope"], report["overview"]) == (
        "quick",
        [],
        scope,
        None,
    )
    assert report["data"]["n"] == SAMPLE
    assert {name: check["n"] for name, check in ran.checks.items()} == {
        "clean": SAMPLE,
        "clean-bee": SAMPLE // 4,
        "confident-errors": SAMPLE,
    }
    assert ran.checks["confident-errors"]["threshold"] == 3, "as made for the sample"
    assert f"- {scope}" in ran.summary
    assert (
        "passes all 3 quick checks; only the full gate can say that it is fit to ship." in ran.page
    )
    assert "of the default profile&#39;s 4 checks (all of rotated images)" in ran.page
    found = {check["name"]: check for check in report["self_checks"]}
    assert (
        found["identity-equals-clean"]["status"] == found["left-half-blanked"]["status"] == "pass"
    )
    assert "check clean of family 'clean' notices" in found["left-half-blanked"]["detail"]
    assert found["turned-020"]["status"] == "not_applicable"


def test_a_worse_model_fails(gate):
    gate.save("worse.safetensors", jitter=3.0)
    ran = gate.once(*PROFILE, "--candidate", "worse.safetensors")
    assert ran.ending == (1, "fail")
    ran.stdout.fnmatch_lines(["*FAIL (quick profile): * of 3 checks fail; worse: clean images*"])


def test_thresholds_made_for_the_sample_have_no_leniency(gate):
    """90% of the sample are correct, and the interval reaches to 94.5%."""
    ran = gate.once(
        *PROFILE, files={FILE: text_of(gate, QUICK.replace("threshold = 0.85", "threshold = 0.94"))}
    )
    assert ran.ret == 1
    clean = ran.checks["clean"]
    assert clean["value"] < 0.94 < clean["interval"][1]
    assert (clean["status"], clean["threshold"]) == ("fail", 0.94)


def test_checks_that_cannot_fail_end_with_4(gate):
    ran = gate.once(
        *PROFILE, files={FILE: text_of(gate, QUICK.replace("threshold = 0.85", "threshold = 0.01"))}
    )
    assert ran.ending == (4, "error")
    ran.stdout.fnmatch_lines(["*self-check left-half-blanked:*"])


# Other checks, other samples, other profiles.


@pytest.mark.parametrize(
    ("options", "files", "omission"),
    [
        (
            ("-k", "not bee"),
            {},
            "1 of 3 checks did not run: clean-bee; families without a test: single classes",
        ),
        (
            ("--stress-samples", "50"),
            {},
            "50 of 400 images were measured; the checks are made for a sample of 100",
        ),
        (
            ("--stress-samples", "100", "--checks", "stress_tests/checks.toml"),
            {},
            "100 of 400 images were measured",
        ),
        (("--stress-samples", "100"), {FILE: None}, "100 of 400 images were measured"),
    ],
    ids=["deselected", "other-sample", "other-checks", "no-checks"],
)
def test_less_than_the_checks_are_made_for_is_partial(gate, options, files, omission):
    ran = gate.once(*PROFILE, *options, files=files)
    assert ran.ending == (0, "partial")
    undecided = [name for name, status in ran.statuses.items() if status == "inconclusive"]
    by_hand = [said for said in ran.report["omissions"] if said.startswith("thresholds by hand")]
    assert all(name in by_hand[0] for name in undecided)
    assert [said for said in ran.report["omissions"] if said not in by_hand] == [omission]


@pytest.mark.parametrize(
    "options", [(), ("--stress-profile", "thorough"), ("--stress-samples", "100")]
)
def test_checks_made_for_a_sample_are_refused_in_another_profile(gate, options):
    ran = gate.once("--checks", FILE, *options)
    assert ran.ret == 4
    ran.stderr.fnmatch_lines(
        [
            "*checks-quick.toml: made for the quick profile's sample of 100 images, * with all "
            "400. Add --stress-profile quick, or name*"
        ]
    )


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        *(
            (each, rf"\[data\] sample is {each}, expected a number from 1 to n, 400")
            for each in (0, -1, 401)
        ),
        *(
            (each, r"data: sample is .*, expected a whole number")
            for each in ("true", '"all"', "2.5")
        ),
    ],
)
def test_a_sample_that_cannot_be_drawn_is_refused(shared, tmp_path, sample, said):
    (tmp_path / "checks.toml").write_text(text_of(shared, sample=sample))
    with pytest.raises(ChecksError, match=said):
        read_checks(tmp_path / "checks.toml")


# Its thresholds.


def test_calibration_measures_the_sample_into_the_panel_of_the_file(zoo, monkeypatch):
    runs, quick = [], zoo.root / FILE
    run_here(monkeypatch, zoo.pytester, runs)
    rows = "\n".join(line for line in QUICK.splitlines() if not line.startswith("hand"))
    quick.write_text(text_of(zoo, rows, head='\n[recipe]\npanel = "models/of-its-own.json"\n'))
    seeds = [
        zoo.save(
            f"seed-{seed}.safetensors", seed=seed, jitter=0.02, training={**TRAINING, "seed": seed}
        ).name
        for seed in range(1, 4)
    ]
    named = ("--checks", FILE, "--checkpoints", *seeds)
    assert main(["calibrate", *named, "--", "--stress-set", f"data={zoo.data}"]) == 0
    assert len(runs) == 4, "the first is asked which predictions the tests take"
    checks = read_checks(quick)
    panel = read_panel(zoo.root / "models/of-its-own.json", checks)
    sizes = {"clean": SAMPLE, "clean-bee": SAMPLE // 4, "confident-errors": SAMPLE}
    assert {row.id: row.n for row in panel.checks} == sizes
    assert [check.id for check in checks.checks] == list(sizes), "no row came to it"
    assert (checks.data.sample, checks.recipe["panel"]) == (SAMPLE, "models/of-its-own.json")
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
    quick, full = (
        {check.definition for check in read_checks(path).checks}
        for path in (SHIPPED_QUICK, SHIPPED_FULL)
    )
    own = {check.id for check in read_checks(SHIPPED_QUICK).checks} - {
        check.id for check in read_checks(SHIPPED_FULL).checks
    }
    assert len(quick - full) == len(own)
    assert len(own) < len(quick) / 2


def test_every_shipped_quick_row_has_a_threshold():
    """Besides one, informational in both profiles: slices only show where to look."""
    informational = [
        check.id for check in read_checks(SHIPPED_QUICK).checks if check.binding is None
    ]
    assert informational == ["slices-worst"]
