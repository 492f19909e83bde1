"""`stress-harness calibrate`: reference models are measured by the stress tests themselves, and set the thresholds."""

import re
import shutil
import subprocess
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import numpy as np
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
import torch
from panels import calibrate
from zoo import ROWS, STRESS_TESTS, TRAINING, Zoo, hypothesis_as_it_starts, network, run_here

from harness.base.errors import InputError
from harness.calibration import measure
from harness.calibration.measure import load_reference_models, measure_panel
from harness.calibration.panel import read_panel
from harness.calibration.recording import Recording
from harness.calibration.warm import WarmProcess
from harness.checks import read_checks
from harness.cli import main
from harness.inference import Classifier, role
from harness.measures import accuracy, confident_errors
from harness.perturb import IDENTITY, Pose
from harness.run.execute import execute

JITTER = 0.02
ON_ZOO = ("--stress-set", "data=npz:zoo.npz")
UNBOUND = (
    "\n[budget]\nrotation = 0.2  # they differ\n"
    + re.sub("hand = .*", "", ROWS)
    + '\n[[check]]\nid = "rotate-cw-010"\nfamily = "rotation"\nmetric = "accuracy"\npose = { degrees = -10 }\n'
)
ROWS_OF_ALL = ["clean", "clean-bee", "rotate-ccw-010", "confident-errors", "rotate-cw-010"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all tests here: what a network gives is measured once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def zoo(pytester, monkeypatch, cache):
    zoo = Zoo(pytester.path)
    zoo.bind(UNBOUND)
    zoo.runs = []
    zoo.panel = zoo.root / "models/panel.json"
    zoo.seeds = [
        zoo.save(f"seed-{seed}.safetensors", seed=seed, jitter=JITTER, training={**TRAINING, "seed": seed}).name
        for seed in range(1, 9)
    ]
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    run_here(monkeypatch, pytester, zoo.runs)
    with hypothesis_as_it_starts():
        yield zoo


def run_calibrate(zoo, *arguments, checkpoints=None) -> int:
    """Calibrate with the eight reference models, unless others are given."""
    given = zoo.seeds if checkpoints is None else checkpoints
    named = ["--checkpoints", *map(str, given)] if given else []
    return main(["calibrate", *arguments, *named, "--", "--stress-set", "data=npz:zoo.npz"])


def state(zoo) -> dict[str, bytes | None]:
    return {path.name: path.read_bytes() if path.exists() else None for path in (zoo.checks, zoo.panel)}


# From networks to thresholds.


def test_the_panel_holds_what_the_stress_tests_measure(zoo, capsys):
    assert run_calibrate(zoo) == 0
    panel = read_panel(zoo.panel, read_checks(zoo.checks))
    assert [check.id for check in panel.checks] == sorted(ROWS_OF_ALL, key=ROWS_OF_ALL.index)
    assert [(member.path, member.seed) for member in panel.models] == [
        (f"seed-{n}.safetensors", n) for n in range(1, 9)
    ]
    assert panel.recipe == {name: value for name, value in TRAINING.items() if name != "seed"}
    for seed, member in enumerate(panel.models, start=1):
        classifier = Classifier(network(seed=seed, jitter=JITTER), workers=1)
        clean, left, right = (classifier.predict(zoo.images, pose) for pose in (IDENTITY, Pose(10), Pose(-10)))
        assert dict(member.values) == {
            "clean": accuracy(clean).value,
            "clean-bee": accuracy(clean, of_class="bee").value,
            "rotate-ccw-010": accuracy(left).value,
            "confident-errors": confident_errors(clean, above=0.9).value,
            "rotate-cw-010": accuracy(right).value,
        }
    printed = capsys.readouterr().out
    assert "thresholds: stress_tests/checks.toml\nmeasurements: models/panel.json" in printed
    assert re.search(r"^rotation +2 +2 ", printed, re.MULTILINE)


def test_thresholds_until_calibrated_end_and_lenient_ones_are_named(zoo, capsys):
    text = zoo.checks.read_text().replace('id = "clean"\n', 'id = "clean"\nhand = HAND\n', 1)
    until = 'hand = { threshold = 0.5, reason = "until calibrated" }'
    zoo.checks.write_text(text.replace("hand = HAND", until))
    assert run_calibrate(zoo) == 0
    check = next(check for check in read_checks(zoo.checks).checks if check.id == "clean")
    assert (check.hand, check.binding) == (None, check.panel)
    out = capsys.readouterr().out
    assert f"clean: the panel's threshold, {check.panel.threshold:g}, replaces the one by hand, 0.5, that was" in out
    assert "warning" not in out
    zoo.checks.write_text(text.replace("hand = HAND", "hand = { threshold = 0.5 }"))
    assert run_calibrate(zoo) == 0
    assert "warning: clean: the threshold by hand, 0.5, is more lenient than the panel's" in capsys.readouterr().out
    assert "threshold = 0.5 }" in zoo.checks.read_text()


def test_the_checks_file_holds_the_thresholds_and_whose_they_are(zoo):
    assert run_calibrate(zoo) == 0
    checks = read_checks(zoo.checks)
    panel = read_panel(zoo.panel, checks)
    expected = {item.check.id: item for item in calibrate(panel, {"rotation": 0.2})}
    assert [check.id for check in checks.checks] == ROWS_OF_ALL
    for check in checks.checks:
        assert (check.panel.threshold, check.panel.reference_models) == (expected[check.id].threshold, 8)
        assert check.informational == expected[check.id].informational
    assert checks.recipe["about"].startswith("8 reference models")
    assert checks.recipe["seeds"] == list(range(1, 9))
    assert checks.recipe["training"] == panel.recipe
    assert checks.recipe["panel"] == "models/panel.json"
    assert "rotation = 0.2  # they differ" in zoo.checks.read_text()


def test_a_member_passes_the_gate_it_made_and_a_worse_network_fails(zoo, pytester):
    assert run_calibrate(zoo) == 0
    options = ("-p", "no:html", "stress_tests", "--stress-set", "data=npz:zoo.npz", "--candidate")
    result = pytester.runpytest_inprocess(*options, "seed-3.safetensors")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["thresholds: 8 reference models*; the candidate's recipe is the same"])
    zoo.save("worse.safetensors", seed=1, jitter=0.4, training={**TRAINING, "epochs": 3})
    result = pytester.runpytest_inprocess(*options, "worse.safetensors")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "thresholds: *recipe is another (it differs in epochs)",
            "*clean: accuracy * < threshold * 8 reference models 0.9*",
        ]
    )


def test_samples_that_fit_into_a_time_are_chosen_first_and_kept(zoo, capsys):
    before = zoo.checks.read_text()
    assert run_calibrate(zoo, "--budget", "0.001s") == 0
    checks = read_checks(zoo.checks)
    assert checks.data.samples == dict.fromkeys(("clean", "class", "confidence", "rotation"), 100)
    assert {check.panel.n for check in checks.checks if check.family != "class"} == {100}
    assert re.search(r"^rotation +100 +400 .* \d+\.\d$", capsys.readouterr().out, re.MULTILINE)
    zoo.checks.write_text(before)
    for arguments in (("--budget", "20m", "--family", "clean"), ("--budget", "20"), ("--", "--stress-budget", "20m")):
        assert main(["calibrate", *arguments]) == 2
    assert zoo.checks.read_text() == before


def test_samples_fit_with_golden_images_and_panel_predictions(zoo):
    """Both lie beside the checks file and change no samples."""
    shutil.copy(STRESS_TESTS / "test_consensus.py", zoo.tests)
    zoo.bind(UNBOUND + '\n[[check]]\nid = "lost"\nfamily = "consensus"\nmetric = "consensus_set_errors"\n')
    data = ("--", "--stress-set", "data=npz:zoo.npz")
    assert main(["golden", "add", "0", "--reason", "seen", *data]) == 0
    before = read_checks(zoo.checks).family("golden")
    for _ in range(2):
        assert run_calibrate(zoo, "--budget", "0.001s") == 0
        checks = read_checks(zoo.checks)
        assert checks.family("golden") == before
        assert checks.panel_predictions.exists()
        assert checks.data.samples == dict.fromkeys(("clean", "class", "confidence", "consensus", "rotation"), 100)


def test_networks_are_measured_once(zoo, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    assert run_calibrate(zoo) == 0
    assert len(zoo.runs) == 8
    before = read_checks(zoo.checks).checks, zoo.panel.read_bytes()
    assert run_calibrate(zoo) == 0
    assert len(zoo.runs) == 8, "the second time all comes from the cache"
    assert (read_checks(zoo.checks).checks, zoo.panel.read_bytes()) == before


def test_networks_are_measured_anew_beside_another_baseline(zoo, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    (zoo.root / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider --baseline plain.safetensors\n")
    zoo.save("plain.safetensors")
    assert run_calibrate(zoo) == 0
    zoo.save("plain.safetensors", seed=30, jitter=0.1)
    assert run_calibrate(zoo) == 0
    assert len(zoo.runs) == 16


def test_networks_are_measured_without_judging_them(zoo, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    zoo.bind(UNBOUND.replace('family = "clean"', 'family = "clean"\nhand = { threshold = 1.0 }'))
    assert run_calibrate(zoo) == 0
    for command in zoo.runs:
        joined = " ".join(command)
        assert " --incumbent none " in joined
        assert " --checks stress_tests/checks.toml " in joined
        assert "--stress-set data=npz:zoo.npz" in joined
        assert joined.endswith(" record=all")
    assert {command[command.index("--candidate") + 1] for command in zoo.runs} == set(zoo.seeds)
    checks = read_checks(zoo.checks)
    assert (checks.checks[0].hand.threshold, checks.checks[0].panel.threshold < 1) == (1.0, True), (
        "both stay in the check"
    )


def test_a_calibration_that_was_stopped_goes_on_where_it_was(zoo, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    run, before = subprocess.run, state(zoo)

    def stopped(command, **facts):
        if len(zoo.runs) >= 5:
            raise KeyboardInterrupt
        return run(command, **facts)

    monkeypatch.setattr(subprocess, "run", stopped)
    assert run_calibrate(zoo) == 130
    assert "run the command again to go on" in capsys.readouterr().err
    assert state(zoo) == before
    monkeypatch.setattr(subprocess, "run", run)
    assert run_calibrate(zoo) == 0
    assert len(zoo.runs) == 8


# A family alone.


def add_a_test(zoo, name="mirror", *, measure="accuracy(predictions)", module="harness.measures"):
    (zoo.tests / f"test_{name}.py").write_text(f"""
from {module} import {measure.partition("(")[0]}
from harness.perturb import HorizontalFlip
from harness.plugin import check

@check("{name}")
def test_mirroring(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images, HorizontalFlip())
    verdict = stress_check.judge({measure})
    evidence.show(verdict, predictions)
    assert verdict.passed, verdict.explain()
""")


def test_calibrating_a_family_gives_a_new_stress_test_its_row(zoo):
    assert run_calibrate(zoo) == 0
    before, panel = read_checks(zoo.checks), read_panel(zoo.panel)
    add_a_test(zoo)
    zoo.runs.clear()
    assert run_calibrate(zoo, "--family", "mirror", checkpoints=()) == 0
    assert len(zoo.runs) == 8, "the networks are those of the panel"
    assert all("record=mirror" in " ".join(command) for command in zoo.runs)
    after = read_checks(zoo.checks)
    assert after.checks[:5] == before.checks
    (new,) = after.checks[5:]
    assert (new.id, new.family, new.metric, new.direction) == ("mirror", "mirror", "accuracy", "at_least")
    merged = read_panel(zoo.panel)
    assert merged.checks[:5] == panel.checks
    for old, member in zip(panel.models, merged.models, strict=True):
        assert {name: member.values[name] for name in old.values} == dict(old.values)
    mirrored = [
        accuracy(
            Classifier(network(seed=seed, jitter=JITTER), workers=1).predict(zoo.images.take(torch.arange(400)), Flip())
        )
        for seed in range(1, 9)
    ]
    assert [member.values["mirror"] for member in merged.models] == [measured.value for measured in mirrored]
    assert run_calibrate(zoo, "--family", "rotation", checkpoints=()) == 0, "the check that came has not changed since"


def test_the_row_of_a_test_whose_family_is_no_id_can_be_read_again(zoo):
    add_a_test(zoo, "Slight_mirror")
    assert run_calibrate(zoo) == 0
    (new,) = read_checks(zoo.checks).family("Slight_mirror")
    assert new.id == "slight-mirror"
    assert run_calibrate(zoo, "--family", "Slight_mirror", checkpoints=()) == 0


def test_a_row_that_no_checks_file_can_have_is_not_written(zoo, monkeypatch, capsys):
    """As one measured by another version, which the panel keeps."""
    monkeypatch.setattr("harness.plugin.parametrization.id_without_check", lambda family, _: f"{family}!")
    monkeypatch.setattr("harness.plugin.parametrization.is_id", lambda _: True)
    add_a_test(zoo)
    before = state(zoo)
    assert run_calibrate(zoo) == 2
    told = capsys.readouterr().err
    assert (
        "error: [CALIBRATION] stress_tests/checks.toml: nothing was written, since it could not be read again: check 6"
        in told
    )
    assert "'mirror!' must be of lower-case ASCII letters" in told
    assert state(zoo) == before
    assert sorted(path.name for path in zoo.tests.glob("*.toml")) == ["checks.toml"]


class Flip:
    def __call__(self, images):
        return torch.flip(images, dims=(3,))


NEW_MEASURES = {
    "blunders": ("confident_errors", "confident_errors(predictions, above=0.3)"),
    "scores": ("brier_score", "brier_score(predictions)"),
    "doubts": ("doubt", "doubt(predictions)"),
}
DOUBT = """
from harness.measures import Measurement, Metric, Unit

DOUBT = Metric("doubt", Unit.SHARE, better="less")

def doubt(predictions):
    value = float(1 - predictions.confidence.mean())
    return Measurement(DOUBT, value, len(predictions.labels), (0.0, 1.0))
"""
"""A metric of the user's own."""


def test_new_measures_of_which_less_is_better_get_ceilings(zoo):
    (zoo.tests / "doubt.py").write_text(DOUBT)
    for name, (_, function) in NEW_MEASURES.items():
        add_a_test(zoo, name, measure=function, module="doubt" if name == "doubts" else "harness.measures")
    assert run_calibrate(zoo) == 0
    checks, panel = read_checks(zoo.checks), read_panel(zoo.panel)
    for name, (metric, _) in NEW_MEASURES.items():
        (new,) = checks.family(name)
        assert (new.metric, new.direction) == (metric, "at_most")
        assert new.panel.threshold > panel.values(panel.family(name)).max()


def test_a_row_that_a_person_took_out_does_not_come_back(zoo):
    """Its pose is in the checks file alone: a check made anew of the panel's would measure something else."""
    assert run_calibrate(zoo) == 0
    text = zoo.checks.read_text()
    start = text.index('[[check]]\nid = "rotate-ccw-010"')
    zoo.checks.write_text(text[:start] + text[text.index("[[check]]", start + 1) :])
    assert run_calibrate(zoo, "--family", "clean") == 0
    assert [check.id for check in read_checks(zoo.checks).checks] == [i for i in ROWS_OF_ALL if i != "rotate-ccw-010"]


def test_a_row_alone_is_calibrated_with_its_family(zoo):
    assert run_calibrate(zoo) == 0
    panel = read_panel(zoo.panel)
    left, right = (f'\n[[check]]\nid = "rotate-cw-{n:03}"\nfamily = "rotation"\nmetric = "accuracy"\n' for n in (4, 5))
    checks = f"{left}pose = {{ degrees = -4 }}\n{right}pose = {{ degrees = -5 }}\n"
    zoo.checks.write_text(zoo.checks.read_text() + checks)
    zoo.runs.clear()
    assert run_calibrate(zoo, "--check", "rotate-cw-00*", checkpoints=()) == 0
    assert len(zoo.runs) == 8
    assert all("record=rotate-cw-004,rotate-cw-005" in " ".join(command) for command in zoo.runs)
    merged, checks = read_panel(zoo.panel), read_checks(zoo.checks)
    assert [check.id for check in merged.checks] == [*ROWS_OF_ALL, "rotate-cw-004", "rotate-cw-005"]
    for old, member in zip(panel.models, merged.models, strict=True):
        assert {name: member.values[name] for name in old.values} == dict(old.values)
        classifier = Classifier(network(seed=old.seed, jitter=JITTER), workers=1)
        assert member.values["rotate-cw-005"] == accuracy(classifier.predict(zoo.images, Pose(-5))).value
    expected = {item.check.id: item.threshold for item in calibrate(merged, {"rotation": 0.2})}
    assert {check.id: check.panel.threshold for check in checks.checks} == expected


def test_a_row_that_is_not_there_is_refused(zoo, capsys):
    assert run_calibrate(zoo) == 0
    assert run_calibrate(zoo, "--check", "rotate-up", checkpoints=()) == 2
    assert "--check rotate-up: no check of stress_tests/checks.toml has such an id" in capsys.readouterr().err


def test_a_family_of_other_networks_than_the_panels_is_refused(zoo, capsys):
    assert run_calibrate(zoo) == 0
    before = state(zoo)
    other = zoo.save("seed-9.safetensors", seed=9, jitter=JITTER, training={**TRAINING, "seed": 9}).name
    assert run_calibrate(zoo, "--family", "clean", checkpoints=[*zoo.seeds[:7], other]) == 2
    assert (
        "models/panel.json: its networks are not those measured now; calibrate all families" in capsys.readouterr().err
    )
    assert state(zoo) == before


# Power.


def test_power_is_told_without_measuring(zoo, capsys, monkeypatch):
    monkeypatch.setattr("harness.calibration.summary._DRAWS", 2_000)
    assert run_calibrate(zoo) == 0
    before, _ = state(zoo), capsys.readouterr()
    zoo.runs.clear()
    assert main(["calibrate", "--power"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"^check .*panel mean .*drop .*wanted .*reference models needed$", table, re.MULTILINE)
    for name in ROWS_OF_ALL:
        assert re.search(rf"^  {name} +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+  (\d+|more than 60)", table, re.MULTILINE)
    assert main(["calibrate", "--power", "--drop", "0.5"]) == 0
    assert re.search(r"^  clean +.* 0\.5000  3\b", capsys.readouterr().out, re.MULTILINE)
    assert (zoo.runs, state(zoo)) == ([], before)


def test_power_without_a_panel_says_how_to_make_one(zoo, capsys):
    assert main(["calibrate", "--power"]) == 2
    assert "models/panel.json: cannot be read" in capsys.readouterr().err


# Few.


def test_three_retrains_are_enough_and_one_gives_provisional_thresholds(zoo, capsys):
    assert run_calibrate(zoo, checkpoints=zoo.seeds[:3]) == 0
    checks = read_checks(zoo.checks)
    assert checks.recipe["about"] == "3 reference models, the same recipe with other seeds"
    panel = read_panel(zoo.panel, checks)
    assert {"clean", "rotate-cw-010"} <= set(panel.chance)
    assert panel.chance["clean"].answers
    assert panel.chance["rotate-cw-010"].rest == pytest.approx(
        np.mean([member.values["clean"] for member in panel.models])
    )
    capsys.readouterr()
    assert run_calibrate(zoo, "--plan", checkpoints=[]) == 0
    assert "to train besides the 3 at hand" in capsys.readouterr().out
    assert run_calibrate(zoo, checkpoints=zoo.seeds[:1]) == 0
    assert read_checks(zoo.checks).recipe["about"].startswith("provisional, of 1 reference model: ")
    assert "these thresholds are provisional; more reference models would gain:" in capsys.readouterr().out


# Refusals: exit status 2, and no file is changed.


def copied(zoo):
    shutil.copy(zoo.root / zoo.seeds[2], zoo.root / "copy.safetensors")
    return {"checkpoints": [*zoo.seeds, "copy.safetensors"]}


def named_twice(zoo):
    return {"checkpoints": [*zoo.seeds[:7], zoo.seeds[0]]}


def relabelled(zoo):
    zoo.save("relabelled.safetensors", seed=3, jitter=JITTER, training={**TRAINING, "seed": 9})
    return {"checkpoints": [*zoo.seeds, "relabelled.safetensors"]}


def a_copy_up_to_rounding(zoo):
    zoo.save("near.safetensors", seed=3, jitter=JITTER + 1e-7, training={**TRAINING, "seed": 9})
    return {"checkpoints": [*zoo.seeds, "near.safetensors"]}


def another_recipe(zoo):
    zoo.save("long.safetensors", seed=9, jitter=JITTER, training={**TRAINING, "epochs": 40, "seed": 9})
    return {"checkpoints": [*zoo.seeds, "long.safetensors"]}


def an_outlier(zoo):
    zoo.save("bad.safetensors", seed=1, jitter=1.0, training={**TRAINING, "seed": 9})
    return {"checkpoints": [*zoo.seeds, "bad.safetensors"]}


def garbage(zoo):
    (zoo.root / "bad.safetensors").write_bytes(b"not a checkpoint")
    return {"checkpoints": [*zoo.seeds, "bad.safetensors"]}


def unreadable_checks(zoo):
    zoo.checks.write_text(zoo.checks.read_text() + 'direction = "above"\n')
    return {}


def an_unknown_key(zoo):
    zoo.checks.write_text(zoo.checks.read_text() + "flor = 1\n")
    return {}


def no_checks(zoo):
    zoo.checks.unlink()
    return {}


def checks_of_other_data(zoo):
    zoo.checks.write_text(zoo.checks.read_text().replace(zoo.images.sha256, "0" * 64))
    return {}


def a_broken_test(zoo):
    (zoo.tests / "test_own.py").write_text("def test_own():\n    raise OSError('lost')\n")
    return {}


def a_family_without_a_panel(zoo):
    return {"arguments": ("--family", "clean")}


def a_panel_of_other_data(zoo):
    run_calibrate(zoo)
    zoo.panel.write_text(zoo.panel.read_text().replace(zoo.images.sha256, "0" * 64))
    return {"arguments": ("--family", "clean")}


def no_such_family(zoo):
    run_calibrate(zoo)
    return {"arguments": ("--family", "none-such")}


REFUSALS = {
    copied: r"copy\.safetensors: is the same network as seed-3\.safetensors",
    named_twice: r"seed-1\.safetensors: is the same network as seed-1\.safetensors",
    relabelled: r"relabelled\.safetensors: is the same network as seed-3\.safetensors",
    a_copy_up_to_rounding: r"near\.safetensors: is the same network as seed-3\.safetensors, up to rounding",
    another_recipe: r"long\.safetensors: its recipe differs from that of seed-1\.safetensors in epochs",
    an_outlier: r"bad\.safetensors has [a-z0-9-]+ [\d.]+, the others [\d.]+ ± [\d.e-]+; remove them",
    garbage: r"REFUSED\[FORMAT\] bad\.safetensors",
    unreadable_checks: r"checks\.toml: check 5 \('rotate-cw-010'\): direction is 'above'",
    an_unknown_key: r"exit status 4:\n(.*\n)*.*check 'rotate-cw-010' of test_\w+: unknown key 'flor'",
    no_checks: r"checks\.toml: cannot be read",
    checks_of_other_data: r"seed-1\.safetensors: the stress tests ended with exit status 4:\n(.*\n)*.*other data",
    a_broken_test: r"seed-1\.safetensors: the stress tests ended with exit status 4:\n(.*\n)*.*OSError: lost",
    a_family_without_a_panel: r"panel\.json: cannot be read .*calibrate` makes a panel",
    a_panel_of_other_data: r"panel\.json: measured on data with SHA-256 0{12}, .*calibrate again",
    no_such_family: r"stress_tests: no test is of family none-such; name a family that a test is marked with$",
}


@pytest.mark.parametrize(("prepare", "message"), REFUSALS.items(), ids=[prepare.__name__ for prepare in REFUSALS])
def test_what_cannot_be_calibrated_ends_with_2_and_changes_nothing(zoo, capsys, prepare, message):
    how = prepare(zoo)
    before, _ = state(zoo), capsys.readouterr()
    assert run_calibrate(zoo, *how.pop("arguments", ()), **how) == 2
    printed = capsys.readouterr().err
    assert re.search(f"^error: .*({message})", printed, re.MULTILINE), printed
    assert state(zoo) == before


# Files that change meanwhile.


@pytest.mark.parametrize("name", ["checks.toml", "seed-1.safetensors", "test_clean.py", "augmented.safetensors"])
def test_a_file_that_changes_before_a_network_is_measured_is_refused(zoo, capsys, monkeypatch, tmp_path, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    (path,) = zoo.root.rglob(name)
    other = zoo.save("other.safetensors", jitter=JITTER, seed=99).read_bytes()
    run = subprocess.run

    def change_and_run(command, **how):
        with once:
            if not changed:
                path.write_bytes(other if path.suffix == ".safetensors" else path.read_bytes() + b"\n# another\n")
                changed.append(state(zoo))
        return run(command, **how)

    changed, once = [], threading.Lock()
    monkeypatch.setattr(subprocess, "run", change_and_run)
    baseline = ("--stress-set", "data=npz:zoo.npz", "--baseline", "models/augmented.safetensors")
    assert main(["calibrate", "--checkpoints", *zoo.seeds, "--", *baseline]) == 2
    assert re.search(r"^error: .* changed while ", capsys.readouterr().err, re.MULTILINE)
    assert state(zoo) in changed
    kept = list((tmp_path / "new").rglob("measured/*.json"))
    assert not kept or name == "seed-1.safetensors", "what was measured by other bytes is not kept"


@pytest.mark.parametrize("name", ["checks.toml", "panel.json"])
def test_an_edit_made_while_the_panel_is_measured_is_not_lost(zoo, capsys, monkeypatch, name):
    assert run_calibrate(zoo) == 0
    (path,) = zoo.root.rglob(name)
    take = measure.measure_panel

    def measure_and_edit(*arguments, **how):
        panel = take(*arguments, **how)
        path.write_bytes(path.read_bytes() + b"\n")
        edited.append(state(zoo))
        return panel

    edited = []
    monkeypatch.setattr("harness.calibration.calibrate.measure_panel", measure_and_edit)
    capsys.readouterr()
    assert run_calibrate(zoo) == 2
    assert f"{name}: changed while the panel was measured, so nothing was written" in capsys.readouterr().err
    assert [state(zoo)] == edited


# Measuring, with a stand-in for the run of the tests.


@pytest.fixture
def measured(zoo, monkeypatch, tmp_path):
    """Measure three networks whose entries a test makes up."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))

    def measure_with(*lists):
        entries = dict(zip(zoo.seeds, lists, strict=False))
        monkeypatch.setattr(measure, "record", lambda path, recording, run, **_: entries[path.name])
        recording = Recording(zoo.tests, read_checks(zoo.checks), (), ON_ZOO)
        return measure_panel(load_reference_models([zoo.root / name for name in entries], recording), recording)

    return measure_with


def entry(name: str = "clean", **facts):
    known = {"family": name, "metric": "accuracy", "unit": "share", "direction": "at_least", "n": 400, "value": 0.9}
    return {"id": name, **known, **facts}


def test_members_keep_their_order_and_rows_that_of_the_first(measured):
    panel = measured([entry("b"), entry("a")], [entry("a", value=0.8), entry("b")])
    assert [check.id for check in panel.checks] == ["b", "a"]
    assert panel.values(panel.checks).tolist() == [[0.9, 0.9], [0.9, 0.8]]


def test_what_was_taken_of_the_members_files_is_told_once(zoo, monkeypatch, capsys):
    load = role.load
    monkeypatch.setattr(role, "load", lambda *given: replace(load(*given), note="of module."))
    recording = Recording(zoo.tests, read_checks(zoo.checks), (), ON_ZOO)
    load_reference_models([zoo.root / name for name in zoo.seeds[:3]], recording)
    assert f"{', '.join(str(zoo.root / name) for name in zoo.seeds[:3])}: of module.\n" == capsys.readouterr().err


def test_a_row_that_measures_something_else_on_another_member_is_refused(measured):
    with pytest.raises(InputError, match=r"seed-2\.safetensors: check clean: n is 300, for another network it is 400"):
        measured([entry()], [entry(n=300)])


@pytest.mark.parametrize("lists", [([entry(), entry("b")], [entry()]), ([entry()], [entry(), entry("b")])])
def test_a_row_that_a_member_lacks_is_left_out_and_named(measured, lists, capsys):
    panel = measured(*lists)
    assert [check.id for check in panel.checks] == ["clean"]
    assert [set(model.values) for model in panel.models] == [{"clean"}, {"clean"}]
    assert capsys.readouterr().err == "b: without a value for some reference models, so without a threshold\n"


def test_the_values_of_a_run_are_the_measured_rows_of_the_candidate(zoo, pytester):
    shutil.copy(STRESS_TESTS / "test_baseline.py", zoo.tests)
    shutil.copy(STRESS_TESTS / "test_gain_over_baseline.py", zoo.tests)
    shutil.copy(STRESS_TESTS / "test_regression.py", zoo.tests)
    baseline = '[[check]]\nid = "baseline"\nfamily = "baseline"\nmetric = "accuracy"\nrole = "baseline"\n'
    zoo.checks.write_text(f"{zoo.checks.read_text()}\n{baseline}")
    options = ("--stress-set", "data=npz:zoo.npz", "--baseline", "models/augmented.safetensors")
    recording = Recording(Path("stress_tests"), read_checks(zoo.checks), ("gain", "baseline", "regression"), options)
    (found,) = measure.record(Path("seed-1.safetensors"), recording, execute)
    assert (found["id"], found["family"], found["unit"]) == ("gain", "gain", "difference")
    one, other = (
        accuracy(Classifier(network(**facts), workers=1).predict(zoo.images)).value
        for facts in ({"seed": 1, "jitter": JITTER}, {})
    )
    assert found["value"] == pytest.approx(one - other)


def test_what_is_kept_depends_on_all_that_decides_the_values(zoo):
    recording = Recording(zoo.tests, read_checks(zoo.checks), (), ("--stress-set", "data=npz:zoo.npz"))
    first = recording.definition()
    assert recording.definition() == first
    assert replace(recording, families=("clean",)).definition() != first
    assert replace(recording, options=(*recording.options, "--stress-samples", "20")).definition() != first
    text = zoo.checks.read_text()
    zoo.checks.write_text(text.replace("degrees = 10", "degrees = 15"))
    assert replace(recording, checks=read_checks(zoo.checks)).definition() != first
    zoo.checks.write_text(text.replace("pose", "hand = { threshold = 0.1 }\npose"))
    assert replace(recording, checks=read_checks(zoo.checks)).definition() == first, "thresholds decide no value"
    add_a_test(zoo)
    assert recording.definition() != first


def test_a_run_of_its_own_measures_the_same(zoo, monkeypatch):
    """The whole way, once."""
    recording = Recording(
        Path("stress_tests"), read_checks(zoo.checks), ("clean",), ("--stress-set", "data=npz:zoo.npz")
    )
    here = measure.record(Path(zoo.seeds[0]), recording, execute)
    monkeypatch.undo()
    monkeypatch.chdir(zoo.root)
    with closing(WarmProcess(0, recording.options)) as process:
        assert measure.record(Path(zoo.seeds[0]), recording, process.run) == here
        assert np.isfinite([found["value"] for found in here]).all()


@pytest.mark.parametrize("change", ["pose = { degrees = 10 }", "confidence = 0.9"])
def test_a_row_changed_after_its_calibration_has_no_threshold(zoo, pytester, change):
    """A milder one would pass by the threshold of the stricter."""
    milder = {"pose = { degrees = 10 }": "pose = { degrees = 1 }", "confidence = 0.9": "confidence = 0.99"}[change]
    assert run_calibrate(zoo) == 0
    options = ("stress_tests", "-p", "no:html", "--stress-set", "data=npz:zoo.npz", "--candidate", "seed-1.safetensors")
    assert pytester.runpytest_inprocess(*options).ret == 0
    text = zoo.checks.read_text()
    assert text.count(change) == 1
    zoo.checks.write_text(text.replace(change, milder))
    result = pytester.runpytest_inprocess(*options)
    assert result.ret == 4
    family = "rotation" if "pose" in change else "confidence"
    result.stderr.fnmatch_lines([f"*has changed since its threshold was calibrated; *--family {family}*"])
    assert run_calibrate(zoo, "--family", family, checkpoints=()) == 0
    read_checks(zoo.checks).expect_rows_as_calibrated()
