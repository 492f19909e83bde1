"""Thresholds are stored with the augmentation range and the border of the panel."""

import json
import tomllib

import pytest
from zoo import CLEAN, TRAINING, Zoo, hypothesis_as_it_starts, network

from harness.base.errors import InputError
from harness.calibration.panel import read_panel
from harness.checks import ChecksError, read_checks
from harness.checks.edits import with_domain
from harness.cli import main
from harness.data.domain import AugmentationRange, Domain
from harness.inference import Classifier
from harness.measures import accuracy
from harness.perturb.poses import BorderedPose

JITTER = 0.02
ON_ZOO = ("--stress-set", "data=npz:zoo.npz")
ROWS = f"""{CLEAN.replace("hand = { threshold = 0.6 }", "")}
[[check]]
id = "shift-right-4"
family = "rotation"
metric = "accuracy"
pose = {{ dx = 4 }}
"""
GATE = '[gate]\naugmentation = { shift_x = 4 }\nborder = "edge"\n\n'
DECLARED = Domain(AugmentationRange(shift_x=4), "edge")


@pytest.fixture
def zoo(pytester, runs):
    zoo = Zoo(pytester.path)
    zoo.bind(ROWS)
    zoo.panel = zoo.root / "models/panel.json"
    zoo.seeds = [
        zoo.save(
            f"seed-{seed}.safetensors",
            seed=seed,
            jitter=JITTER,
            training={**TRAINING, "seed": seed},
        ).name
        for seed in (1, 2, 3)
    ]
    return zoo


def declare(zoo, text=GATE):
    zoo.checks.write_text(zoo.checks.read_text().replace("[data]\n", f"{text}[data]\n"))


def undeclare(zoo):
    zoo.checks.write_text(zoo.checks.read_text().replace(GATE, ""))


def run_calibrate(zoo, *arguments) -> int:
    return main(["calibrate", *arguments, "--checkpoints", *zoo.seeds, "--", *ON_ZOO])


def gate(zoo, pytester):
    options = (
        "-p",
        "no:html",
        "stress_tests",
        *ON_ZOO,
        "--stress-set=no_overview=true",
        "--candidate",
    )
    with hypothesis_as_it_starts():
        return pytester.runpytest_inprocess(*options, "seed-3.safetensors")


@pytest.mark.usefixtures("unchecked")
def test_calibration_measures_the_declared_pixels_and_names_them(zoo, pytester, capsys):
    declare(zoo)
    assert gate(zoo, pytester).ret == 4, "the file is made for the default"
    assert run_calibrate(zoo) == 0
    checks = read_checks(zoo.checks)
    panel = read_panel(zoo.panel, checks)
    assert checks.data.domain == panel.domain == DECLARED
    for model in panel.models:
        classifier = Classifier(network(seed=model.seed, jitter=JITTER), workers=1)
        moved = classifier.predict(zoo.images, BorderedPose(dx=4, border="edge"))
        assert model.values["shift-right-4"] == accuracy(moved).value
    assert all(check.panel for check in checks.checks)
    assert gate(zoo, pytester).ret == 0

    # A part of the panel is not measured with other pixels than the rest.
    undeclare(zoo)
    before = zoo.checks.read_bytes(), zoo.panel.read_bytes()
    capsys.readouterr()
    for part in (
        ("--family", "rotation"),
        ("--check", "clean"),
        ("--convert", "cp {input} {output}"),
    ):
        assert main(["calibrate", *part, "--", *ON_ZOO]) == 2
        assert (
            "calibrate all families, without --family, --check and --convert"
            in capsys.readouterr().err
        )
    assert gate(zoo, pytester).ret == 4
    assert (zoo.checks.read_bytes(), zoo.panel.read_bytes()) == before

    # All of it is; and the default leaves no trace.
    assert run_calibrate(zoo) == 0
    checks = read_checks(zoo.checks)
    assert checks.data.domain == read_panel(zoo.panel, checks).domain == Domain()
    assert "domain" not in json.loads(zoo.panel.read_bytes())
    assert "border" not in zoo.checks.read_text()
    assert gate(zoo, pytester).ret == 0


def test_samples_are_chosen_for_the_declared_pixels(zoo):
    declare(zoo)
    assert run_calibrate(zoo, "--budget", "0.001s") == 0
    checks = read_checks(zoo.checks)
    assert checks.data.domain == read_panel(zoo.panel, checks).domain == DECLARED
    assert checks.data.samples


def test_a_panel_of_other_pixels_is_refused(zoo):
    declare(zoo)
    assert run_calibrate(zoo) == 0
    zoo.checks.write_text(with_domain(zoo.checks.read_text(), Domain()))
    with pytest.raises(
        InputError, match=r"measured with augmentation ±4 px to the sides; border edge, .* is for"
    ):
        read_panel(zoo.panel, read_checks(zoo.checks))


# The text of the checks file.


FILE = """\
# ours
schema = 2
protocol = 1

[data] # of a shop
name = "zoo"
n = 3 # images

[data.samples]
clean = 2
"""


@pytest.mark.parametrize(
    "text",
    [FILE, FILE.replace("[data.samples]\nclean = 2\n", ""), FILE + '\n[[check]]\nid = "clean"\n'],
)
def test_a_domain_is_written_and_removed_and_all_else_stays(text):
    written = with_domain(text, DECLARED)
    data = tomllib.loads(written)["data"]
    assert (data["augmentation"], data["border"]) == (DECLARED.declared()["augmentation"], "edge")
    assert with_domain(written, DECLARED) == written
    assert with_domain(written, Domain(border="mean")).count("border") == 1
    assert with_domain(written, Domain()) == text


def test_a_domain_in_other_forms_is_replaced_or_refused():
    table = FILE.replace("[data.samples]", "[data.augmentation]\nrotate = 5\n\n[data.samples]")
    assert tomllib.loads(with_domain(table, DECLARED))["data"]["augmentation"]["shift_x"] == 4
    inline = "data = { n = 3 }\n"
    with pytest.raises(InputError, match=r"\[data\] cannot be rewritten"):
        with_domain(inline, DECLARED)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('border = "wrap"', "expected constant:V, edge"),
        ('border = "constant:0.0"', "expected the spelling 'constant:0'"),
        ("augmentation = { turn = 1 }", "unknown key 'turn'"),
        ("augmentation = { rotate = -1 }", "rotate is -1, expected a number of at least 0"),
    ],
)
def test_a_checks_file_with_an_invalid_domain_is_refused(zoo, line, said):
    zoo.checks.write_text(zoo.checks.read_text().replace("[data]\n", f"[data]\n{line}\n"))
    with pytest.raises(ChecksError, match=said):
        read_checks(zoo.checks)
