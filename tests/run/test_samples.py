"""A family with a sample in the checks file is measured on it, in whichever way its tests are run."""

import pytest
from zoo import ROWS, images_of

from harness.checks import read_checks
from harness.checks.rows import ChecksError


def sampled(zoo, text="rotation = 100"):
    path = zoo.root / "stress_tests/checks.toml"
    head, *rows = path.read_text().partition("[[check]]")
    path.write_text(f"{head}[data.samples]\n{text}\n\n{''.join(rows)}")
    return path


def test_the_rows_of_a_family_are_measured_on_its_sample(zoo):
    sampled(zoo)
    result = zoo.run()
    report = zoo.report()
    assert (result.ret, report["verdict"]) == (0, "pass"), "its thresholds are made for the sample: nothing is partial"
    assert {check["id"]: check["n"] for check in report["checks"]} == {
        "clean": 400,
        "clean-bee": 100,
        "rotate-ccw-010": 100,
        "confident-errors": 400,
    }


def test_a_family_may_be_measured_on_more_than_the_sample_of_the_others(zoo):
    text = zoo.checks.read_text().replace("n = 400\n", "n = 400\nsample = 100\n")
    zoo.checks.write_text(text)
    sampled(zoo, "rotation = 400")
    zoo.run("--stress-profile", "quick", "--checks", "stress_tests/checks.toml")
    sizes = {check["id"]: check["n"] for check in zoo.report()["checks"]}
    assert sizes == {"clean": 100, "clean-bee": 25, "rotate-ccw-010": 400, "confident-errors": 100}


def test_a_recording_measures_the_same_sample(zoo):
    sampled(zoo)
    zoo.run(record="rotation")
    (check,) = zoo.report()["checks"]
    assert (check["n"], check["status"]) == (100, "informational")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rotation = 0", r"\[data.samples\] rotation is 0, expected a number of images from 1 to 400"),
        ("rotation = 401", r"\[data.samples\] rotation is 401, expected"),
        ("yaw = 10", r"\[data.samples\] yaw: there is no row of this family"),
        ('rotation = "all"', "rotation is 'all', expected a whole number"),
    ],
)
def test_samples_that_cannot_be_are_refused(zoo, text, message):
    with pytest.raises(ChecksError, match=message):
        read_checks(sampled(zoo, text))


def test_a_file_without_samples_means_all(zoo):
    checks = read_checks(zoo.root / "stress_tests/checks.toml")
    assert {checks.data.size_of(check.family) for check in checks.checks} == {len(images_of(400))}
    assert ROWS
