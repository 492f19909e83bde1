"""A family with a sample in the gates file is measured on it, in whichever way its tests are run."""

import pytest
from zoo import ROWS, GatedZoo, images_of

from harness.gates import read_gates
from harness.gates.rows import GatesError


@pytest.fixture
def zoo(pytester):
    return GatedZoo(pytester)


def sampled(zoo, text="rotation = 100"):
    path = zoo.root / "stress_tests/gates.toml"
    head, *rows = path.read_text().partition("[[gate]]")
    path.write_text(f"{head}[data.samples]\n{text}\n\n{''.join(rows)}")
    return path


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
def test_the_rows_of_a_family_are_measured_on_its_sample(zoo, workers):
    sampled(zoo)
    result = zoo.run(*workers)
    report = zoo.report()
    assert (result.ret, report["verdict"]) == (0, "pass"), "its bounds are made for the sample: nothing is partial"
    assert {gate["id"]: gate["n"] for gate in report["gates"]} == {
        "clean": 400,
        "clean-bee": 100,
        "rotate-ccw-010": 100,
        "confident-errors": 400,
    }


def test_a_family_may_be_measured_on_more_than_the_sample_of_the_others(zoo):
    text = zoo.gates.read_text().replace("n = 400\n", "n = 400\nsample = 100\n")
    zoo.gates.write_text(text)
    sampled(zoo, "rotation = 400")
    zoo.run("--stress-profile", "quick", "--gates", "stress_tests/gates.toml")
    sizes = {gate["id"]: gate["n"] for gate in zoo.report()["gates"]}
    assert sizes == {"clean": 100, "clean-bee": 25, "rotate-ccw-010": 400, "confident-errors": 100}


def test_a_recording_measures_the_same_sample(zoo):
    sampled(zoo)
    zoo.run("--stress-record", "rotation")
    (gate,) = zoo.report()["gates"]
    assert (gate["n"], gate["status"]) == (100, "not_gated")


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
    with pytest.raises(GatesError, match=message):
        read_gates(sampled(zoo, text))


def test_a_file_without_samples_means_all(zoo):
    gates = read_gates(zoo.root / "stress_tests/gates.toml")
    assert {gates.data.measured_by(gate.family) for gate in gates.gates} == {len(images_of(400))}
    assert ROWS
