"""A family with a sample in the checks file is measured on it, however its tests run."""

import pytest

from harness.checks import read_checks
from harness.checks.rows import ChecksError

pytestmark = pytest.mark.usefixtures("unchecked")
FILE = "stress_tests/checks.toml"


def sampled(text="rotation = 100", *, whole=""):
    """Return what adds samples to a checks file, and a sample of all images."""

    def change(before):
        head, mark, rows = before.decode().partition("[[check]]")
        return f"{head.replace('n = 400', f'n = 400{whole}')}[data.samples]\n{text}\n\n{mark}{rows}"

    return change


@pytest.mark.parametrize(
    ("text", "whole", "options", "sizes"),
    [
        ("rotation = 100", "", (), (400, 100, 100, 400)),
        (
            "rotation = 400",
            "\nsample = 100",
            ("--stress-profile", "quick", "--checks", FILE),
            (100, 25, 400, 100),
        ),
    ],
    ids=["less", "more"],
)
def test_the_rows_of_a_family_are_measured_on_its_sample(shared, text, whole, options, sizes):
    ran = shared.once(*options, files={FILE: sampled(text, whole=whole)})
    assert ran.ending == (0, "pass"), "its thresholds are made for the sample: nothing is partial"
    assert tuple(check["n"] for check in ran.report["checks"]) == sizes
    costs = dict(zip(("clean", "class", "rotation", "confidence"), sizes, strict=True))
    assert {family: cost["images"] for family, cost in ran.report["costs"].items()} == costs
    assert ran.report["costs"]["rotation"]["cpu_seconds"] > 0


def test_a_recording_measures_the_same_sample(shared):
    (check,) = shared.once(record="rotation", files={FILE: sampled()}).report["checks"]
    assert (check["n"], check["status"]) == (100, "informational")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "rotation = 0",
            r"\[data.samples\] rotation is 0, expected a number of images from 1 to 400",
        ),
        ("rotation = 401", r"\[data.samples\] rotation is 401, expected"),
        ("yaw = 10", r"\[data.samples\] yaw: there is no row of this family"),
        ('rotation = "all"', "rotation is 'all', expected a whole number"),
    ],
)
def test_samples_that_cannot_be_are_refused(shared, tmp_path, text, message):
    (tmp_path / "checks.toml").write_text(sampled(text)(shared.checks.read_bytes()))
    with pytest.raises(ChecksError, match=message):
        read_checks(tmp_path / "checks.toml")


def test_a_file_without_samples_means_all(shared):
    checks = read_checks(shared.checks)
    assert {checks.data.size_of(check.family) for check in checks.checks} == {400}
