"""`stress-harness calibrate`: the stress tests measure reference models for thresholds."""

import re
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from panels import calibrate
from zoo import ROWS, TRAINING, Zoo, network

from harness.base.errors import InputError
from harness.calibration import measure
from harness.calibration.measure import load_reference_models, measure_panel
from harness.calibration.panel import read_panel
from harness.calibration.recording import Recording
from harness.checks import ChecksError, read_checks
from harness.checks.file import PanelSample
from harness.checks.shipped import SHIPPED
from harness.cli import main
from harness.inference import Classifier, role
from harness.measures import accuracy, confident_errors
from harness.perturb import IDENTITY, HorizontalFlip, Pose
from harness.run.inner import execute
from harness.run.request import model_spec

JITTER = 0.02
ON_ZOO = ("--stress-set", "data=npz:zoo.npz")
UNBOUND = (
    re.sub("hand = .*", "", ROWS)
    + '\n[[check]]\nid = "rotate-cw-010"\nfamily = "rotation"\nmetric = "accuracy"\n'
    "pose = { degrees = -10 }\n"
)
ROWS_OF_ALL = ["clean", "clean-bee", "rotate-ccw-010", "confident-errors", "rotate-cw-010"]
CONSENSUS = '\n[[check]]\nid = "lost"\nfamily = "consensus"\nmetric = "consensus_set_errors"\n'


@pytest.fixture
def zoo(pytester, runs):
    zoo = Zoo(pytester.path)
    zoo.bind(UNBOUND)
    zoo.runs, zoo.panel = runs, zoo.root / "models/panel.json"
    zoo.seeds = [member(zoo, f"seed-{seed}", seed) for seed in (1, 2, 3)]
    return zoo


@pytest.fixture
def nothing_kept(zoo, monkeypatch, tmp_path):
    """A cache of its own, set behind that of the zoo."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    return tmp_path / "new"


def member(zoo, name, seed, *, jitter=JITTER, **training) -> str:
    training = {**TRAINING, "seed": seed, **training}
    return zoo.save(f"{name}.safetensors", seed=seed, jitter=jitter, training=training).name


def run_calibrate(zoo, *arguments, checkpoints=None) -> int:
    """Calibrate with the three reference models, unless others are given."""
    given = zoo.seeds if checkpoints is None else checkpoints
    named = ["--checkpoints", *map(str, given)] if given else []
    return main(["calibrate", *arguments, *named, "--", *ON_ZOO])


def measuring(zoo) -> list[str]:
    """Return the commands that measured a network.

    The first one is asked for predictions, too, which no test needs.
    """
    return [" ".join(command) for command in zoo.runs if "answers" not in command]


def state(zoo) -> dict[str, bytes | None]:
    return {
        path.name: path.read_bytes() if path.exists() else None for path in (zoo.checks, zoo.panel)
    }


def network_of(seed):
    return Classifier(network(seed=seed, jitter=JITTER), workers=1)


@pytest.mark.usefixtures("nothing_kept")
def test_networks_are_measured_once_and_set_the_thresholds(zoo, pytester, capsys):
    zoo.bind(UNBOUND.replace('family = "clean"', 'family = "clean"\nhand = { threshold = 0.99 }'))
    assert run_calibrate(zoo) == 0
    checks = read_checks(zoo.checks)
    panel = read_panel(zoo.panel, checks)
    assert (
        [check.id for check in panel.checks] == [check.id for check in checks.checks] == ROWS_OF_ALL
    )
    assert [(each.path, each.seed) for each in panel.models] == [
        (f"seed-{n}.safetensors", n) for n in (1, 2, 3)
    ]
    assert panel.recipe == {name: value for name, value in TRAINING.items() if name != "seed"}
    for each in panel.models:
        poses = (IDENTITY, Pose(10), Pose(-10))
        clean, left, right = (network_of(each.seed).predict(zoo.images, pose) for pose in poses)
        assert dict(each.values) == {
            "clean": accuracy(clean).value,
            "clean-bee": accuracy(clean, of_class="bee").value,
            "rotate-ccw-010": accuracy(left).value,
            "confident-errors": confident_errors(clean, above=0.9).value,
            "rotate-cw-010": accuracy(right).value,
        }
    assert panel.chance["clean"].answers
    assert panel.chance["rotate-cw-010"].rest == pytest.approx(
        sum(each.values["clean"] for each in panel.models) / len(panel.models)
    )
    printed = capsys.readouterr().out
    assert "thresholds: stress_tests/checks.toml\nmeasurements: models/panel.json" in printed
    assert re.search(r"^rotation +2 +2 ", printed, re.MULTILINE)

    expected = {item.check.id: item for item in calibrate(panel, by_hand=frozenset({"clean"}))}
    for check in checks.checks:
        assert (check.panel.threshold, check.panel.reference_models) == (
            expected[check.id].threshold,
            3,
        )
        assert check.informational == expected[check.id].informational
    assert checks.checks[0].hand.threshold == 0.99, "both stay in the check"
    assert checks.recipe["about"] == "3 reference models, the same recipe with other seeds"
    assert (checks.recipe["seeds"], checks.recipe["panel"]) == ([1, 2, 3], "models/panel.json")
    assert checks.recipe["training"] == panel.recipe

    assert {command[command.index("--candidate") + 1] for command in zoo.runs} == set(zoo.seeds)
    for command in measuring(zoo):
        assert " --incumbent none " in command
        assert " --checks stress_tests/checks.toml " in command
        assert "--stress-set data=npz:zoo.npz" in command
        assert command.endswith(" record=all")
    before = checks.checks, zoo.panel.read_bytes()
    assert run_calibrate(zoo) == 0
    assert len(measuring(zoo)) == 3, "the second time all comes from the cache"
    assert (read_checks(zoo.checks).checks, zoo.panel.read_bytes()) == before

    # A member passes its gate, and a network of another recipe does not.
    zoo.checks.write_text(zoo.checks.read_text().replace("hand = { threshold = 0.99 }\n", ""))
    options = (
        "-p",
        "no:html",
        "stress_tests",
        *ON_ZOO,
        "--stress-set=no_overview=true",
        "--candidate",
    )
    result = pytester.runpytest_inprocess(*options, "seed-3.safetensors")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["thresholds: 3 reference models*; the candidate's recipe is the same"]
    )
    result = pytester.runpytest_inprocess(*options, member(zoo, "worse", 1, jitter=0.4, epochs=3))
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "thresholds: *recipe is another (it differs in epochs)",
            "*clean: accuracy * < threshold * 3 reference models 0.9*",
        ]
    )


def test_samples_that_fit_into_a_time_are_chosen_first_and_kept(zoo, capsys):
    """Golden images and panel predictions lie beside the checks file and change no samples."""
    shutil.copy(SHIPPED["test_consensus.py"], zoo.tests)
    zoo.bind(UNBOUND + CONSENSUS)
    assert main(["golden", "add", "0", "--reason", "seen", "--", *ON_ZOO]) == 0
    golden = read_checks(zoo.checks).family("golden")
    for _ in range(2):
        assert run_calibrate(zoo, "--budget", "0.001s") == 0
        checks = read_checks(zoo.checks)
        assert (checks.family("golden"), checks.panel_predictions.exists()) == (golden, True)
        weighted = dict.fromkeys(
            ("clean", "class", "confidence", "rotation"), PanelSample(100, "panel")
        )
        assert checks.data.samples == {"consensus": 100, **weighted}
    assert {check.panel.n for check in checks.family("rotation")} == {100}
    assert re.search(r"^rotation +100 +400 .* \d+\.\d$", capsys.readouterr().out, re.MULTILINE)
    before = zoo.checks.read_text()
    for arguments in (
        ("--budget", "20m", "--family", "clean"),
        ("--budget", "20"),
        ("--", "--stress-budget", "20m"),
    ):
        assert main(["calibrate", *arguments]) == 2
    assert zoo.checks.read_text() == before


@pytest.mark.usefixtures("nothing_kept")
def test_networks_are_measured_anew_beside_another_baseline(zoo):
    (zoo.root / "pytest.ini").write_text(
        "[pytest]\naddopts = -p no:cacheprovider --baseline plain.safetensors\n"
    )
    for facts in ({}, {"seed": 30, "jitter": 0.1}):
        zoo.save("plain.safetensors", **facts)
        assert run_calibrate(zoo, checkpoints=zoo.seeds[:1]) == 0
    assert len(measuring(zoo)) == 2


@pytest.mark.usefixtures("nothing_kept")
def test_a_calibration_that_was_stopped_goes_on_where_it_was(zoo, monkeypatch, capsys):
    run, before, begun = subprocess.run, state(zoo), []

    def stopped(command, **facts):
        begun.append(command)
        if len(begun) > 3:  # The predictions of the first, and two measurements.
            raise KeyboardInterrupt
        return run(command, **facts)

    monkeypatch.setattr(subprocess, "run", stopped)
    assert run_calibrate(zoo) == 130
    assert "run the command again to go on" in capsys.readouterr().err
    assert state(zoo) == before
    monkeypatch.setattr(subprocess, "run", run)
    assert run_calibrate(zoo) == 0
    assert len(measuring(zoo)) == 3


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


def expect_earlier_values(zoo, panel):
    merged = read_panel(zoo.panel)
    assert merged.checks[:5] == panel.checks
    for old, now in zip(panel.models, merged.models, strict=True):
        assert {name: now.values[name] for name in old.values} == dict(old.values)
    return merged


def test_calibrating_a_family_gives_a_new_stress_test_its_row(zoo):
    assert run_calibrate(zoo) == 0
    before, panel = read_checks(zoo.checks), read_panel(zoo.panel)
    add_a_test(zoo, "Slight_mirror")
    zoo.runs.clear()
    assert run_calibrate(zoo, "--family", "Slight_mirror", checkpoints=()) == 0
    assert [command.rpartition(" ")[2] for command in measuring(zoo)] == [
        "record=Slight_mirror"
    ] * 3
    after = read_checks(zoo.checks)
    assert after.checks[:5] == before.checks
    (new,) = after.checks[5:]
    assert (new.id, new.metric, new.direction) == ("slight-mirror", "accuracy", "at_least")
    merged = expect_earlier_values(zoo, panel)
    mirrored = [
        accuracy(network_of(seed).predict(zoo.images, HorizontalFlip())).value for seed in (1, 2, 3)
    ]
    assert [each.values["slight-mirror"] for each in merged.models] == mirrored
    assert run_calibrate(zoo, "--family", "rotation", checkpoints=()) == 0, (
        "the check that came has not changed since"
    )


def test_a_row_alone_is_calibrated_and_one_that_is_gone_stays_gone(zoo, capsys):
    assert run_calibrate(zoo) == 0
    panel = read_panel(zoo.panel)
    left, right = (
        f'\n[[check]]\nid = "rotate-cw-{n:03}"\nfamily = "rotation"\nmetric = "accuracy"\n'
        for n in (4, 5)
    )
    added = f"{left}pose = {{ degrees = -4 }}\n{right}pose = {{ degrees = -5 }}\n"
    zoo.checks.write_text(zoo.checks.read_text() + added)
    zoo.runs.clear()
    assert run_calibrate(zoo, "--check", "rotate-cw-00*", checkpoints=()) == 0
    assert ["record=rotate-cw-004,rotate-cw-005" in command for command in measuring(zoo)] == [
        True
    ] * 3
    merged, checks = expect_earlier_values(zoo, panel), read_checks(zoo.checks)
    assert [check.id for check in merged.checks] == [*ROWS_OF_ALL, "rotate-cw-004", "rotate-cw-005"]
    measured = [
        accuracy(network_of(seed).predict(zoo.images, Pose(-5))).value for seed in (1, 2, 3)
    ]
    assert [each.values["rotate-cw-005"] for each in merged.models] == measured
    expected = {item.check.id: item.threshold for item in calibrate(merged)}
    assert {check.id: check.panel.threshold for check in checks.checks} == expected

    assert run_calibrate(zoo, "--check", "rotate-up", checkpoints=()) == 2
    assert (
        "--check rotate-up: no check of stress_tests/checks.toml has such an id"
        in capsys.readouterr().err
    )
    # A check made anew of the panel's would measure something else: its pose is in the checks file
    # alone.
    text = zoo.checks.read_text()
    start = text.index('[[check]]\nid = "rotate-ccw-010"')
    zoo.checks.write_text(text[:start] + text[text.index("[[check]]", start + 1) :])
    assert run_calibrate(zoo, "--family", "clean") == 0
    assert "rotate-ccw-010" not in [check.id for check in read_checks(zoo.checks).checks]
    before = state(zoo)
    assert (
        run_calibrate(
            zoo, "--family", "clean", checkpoints=[*zoo.seeds[:2], member(zoo, "seed-9", 9)]
        )
        == 2
    )
    message = "models/panel.json: its networks are not those measured now; calibrate all families"
    assert message in capsys.readouterr().err
    assert state(zoo) == before


def test_a_row_that_no_checks_file_can_have_is_not_written(zoo, monkeypatch, capsys):
    """As one measured by another version, which the panel keeps."""
    monkeypatch.setattr(
        "harness.plugin.parametrization.id_without_check", lambda family, _: f"{family}!"
    )
    monkeypatch.setattr("harness.plugin.parametrization.is_id", lambda _: True)
    add_a_test(zoo)
    before = state(zoo)
    assert run_calibrate(zoo) == 2
    message = (
        "stress_tests/checks.toml: nothing was written, since it could not be read again: check 6"
    )
    printed = capsys.readouterr().err
    assert f"error: [CALIBRATION] {message}" in printed
    assert "'mirror!' must be of lower-case ASCII letters" in printed
    assert state(zoo) == before
    assert sorted(path.name for path in zoo.tests.glob("*.toml")) == ["checks.toml"]


NEW_MEASURES = {
    "blunders": ("confident_errors", "confident_errors(predictions, above=0.3)"),
    "doubts": ("doubt", "doubt(predictions)"),
}
DOUBT = """
from harness.measures import Measurement, Metric, Unit

DOUBT = Metric("doubt", Unit.SHARE, better="less")

def doubt(predictions):
    value = float(1 - predictions.confidence.mean())
    return Measurement(DOUBT, value, len(predictions.labels), (0.0, 1.0))
"""
"""A metric of the user's own, without contributions of the images."""


def test_power_and_plan_are_printed_without_measuring(zoo, capsys):
    assert main(["calibrate", "--power"]) == 2
    assert "models/panel.json: cannot be read" in capsys.readouterr().err
    assert run_calibrate(zoo) == 0
    before, _ = state(zoo), capsys.readouterr()
    zoo.runs.clear()
    assert main(["calibrate", "--power"]) == 0
    table = capsys.readouterr().out
    assert re.search(
        r"^check .*panel mean .*drop .*wanted .*reference models needed$", table, re.MULTILINE
    )
    for name in ROWS_OF_ALL:
        assert re.search(
            rf"^  {name} +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+  (\d+|more than 60)",
            table,
            re.MULTILINE,
        )
    assert main(["calibrate", "--power", "--drop", "0.5"]) == 0
    assert re.search(r"^  clean +.* 0\.5000  3\b", capsys.readouterr().out, re.MULTILINE)
    assert run_calibrate(zoo, "--plan", checkpoints=[]) == 0
    assert "to train besides the 3 at hand" in capsys.readouterr().out
    assert (zoo.runs, state(zoo)) == ([], before)


def test_one_network_gives_provisional_thresholds(zoo, capsys):
    assert run_calibrate(zoo, checkpoints=zoo.seeds[:1]) == 0
    assert read_checks(zoo.checks).recipe["about"].startswith("provisional, of 1 reference model: ")
    assert (
        "these thresholds are provisional; more reference models would gain:"
        in capsys.readouterr().out
    )
    (zoo.tests / "doubt.py").write_text(DOUBT)
    for name, (_, function) in NEW_MEASURES.items():
        add_a_test(
            zoo, name, measure=function, module="doubt" if name == "doubts" else "harness.measures"
        )
    assert run_calibrate(zoo) == 0
    checks, panel = read_checks(zoo.checks), read_panel(zoo.panel)
    for name, (metric, _) in NEW_MEASURES.items():
        (new,) = checks.family(name)
        assert (new.metric, new.direction) == (metric, "at_most")
        assert new.panel.threshold > panel.values(panel.family(name)).max()


def also(make):
    """Return what prepares a calibration of one more network, of the name that is returned."""
    return lambda zoo: {"checkpoints": [*zoo.seeds, make(zoo)]}


def written(change):
    """Return what prepares a calibration by changing the text of the checks file."""
    return lambda zoo: zoo.checks.write_text(change(zoo.checks.read_text(), zoo)) and {}


def garbage(zoo):
    (zoo.root / "bad.safetensors").write_bytes(b"not a checkpoint")
    return "bad.safetensors"


def a_broken_test(zoo):
    (zoo.tests / "test_own.py").write_text("def test_own():\n    raise OSError('lost')\n")
    return {}


def a_panel_of_other_data(zoo):
    run_calibrate(zoo)
    zoo.panel.write_text(zoo.panel.read_text().replace(zoo.images.sha256, "0" * 64))
    return {"arguments": ("--family", "clean")}


def no_such_family(zoo):
    run_calibrate(zoo)
    return {"arguments": ("--family", "none-such")}


ENDED = r"seed-1\.safetensors: the stress tests ended with exit status 4:\n(.*\n)*.*"
REFUSALS = {
    "named twice": (
        also(lambda zoo: zoo.seeds[0]),
        r"seed-1\.safetensors: is the same network as seed-1\.safetensors",
    ),
    "relabelled": (
        also(
            lambda zoo: (
                zoo.save(
                    "copy.safetensors", seed=3, jitter=JITTER, training={**TRAINING, "seed": 9}
                ).name
            )
        ),
        r"copy\.safetensors: is the same network as seed-3\.safetensors",
    ),
    "a copy up to rounding": (
        also(lambda zoo: member(zoo, "near", 3, jitter=JITTER + 1e-7)),
        r"near\.safetensors: is the same network as seed-3\.safetensors, up to rounding",
    ),
    "another recipe": (
        also(lambda zoo: member(zoo, "long", 9, epochs=40)),
        "long.* differs from that of seed-1.* in epochs",
    ),
    "an outlier": (
        also(lambda zoo: member(zoo, "bad", 9, jitter=1.0)),
        r"bad\.safetensors is an outlier in 4 of 5 checks, and has .*, the others .*; remove",
    ),
    "garbage": (also(garbage), r"REFUSED\[FORMAT\] bad\.safetensors"),
    "unreadable checks": (
        written(lambda text, _: f'{text}direction = "above"\n'),
        r"check 5 .*: direction is 'above'",
    ),
    "an unknown key": (
        written(lambda text, _: f"{text}flor = 1\n"),
        f"{ENDED}: unknown key 'flor'",
    ),
    "no checks": (lambda zoo: zoo.checks.unlink() or {}, r"checks\.toml: cannot be read"),
    "checks of other data": (
        written(lambda text, zoo: text.replace(zoo.images.sha256, "0" * 64)),
        f"{ENDED}other data",
    ),
    "a broken test": (a_broken_test, f"{ENDED}OSError: lost"),
    "a family without a panel": (
        lambda _: {"arguments": ("--family", "clean")},
        r"panel\.json: cannot be read .*calibrate` makes a panel",
    ),
    "a panel of other data": (
        a_panel_of_other_data,
        r"panel\.json: measured on data with SHA-256 0{12}, .*calibrate again",
    ),
    "no such family": (
        no_such_family,
        "no test is of family none-such; name a family that a test is marked with$",
    ),
}


@pytest.mark.parametrize(("prepare", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_calibrated_ends_with_2_and_changes_nothing(zoo, capsys, prepare, message):
    how = prepare(zoo)
    before, _ = state(zoo), capsys.readouterr()
    assert run_calibrate(zoo, *how.pop("arguments", ()), **how) == 2
    printed = capsys.readouterr().err
    assert re.search(f"^error: .*({message})", printed, re.MULTILINE), printed
    assert state(zoo) == before


@pytest.mark.parametrize(
    "name", ["checks.toml", "seed-1.safetensors", "test_clean.py", "augmented.safetensors"]
)
def test_a_file_that_changes_before_a_network_is_measured_is_refused(
    zoo, capsys, monkeypatch, nothing_kept, name
):
    (path,) = zoo.root.rglob(name)
    other = zoo.save("other.safetensors", jitter=JITTER, seed=99).read_bytes()
    run = subprocess.run

    def change_and_run(command, **how):
        with once:
            if not changed:
                path.write_bytes(
                    other if path.suffix == ".safetensors" else path.read_bytes() + b"\n# another\n"
                )
                changed.append(state(zoo))
        return run(command, **how)

    changed, once = [], threading.Lock()
    monkeypatch.setattr(subprocess, "run", change_and_run)
    baseline = (*ON_ZOO, "--baseline", "models/augmented.safetensors")
    assert main(["calibrate", "--checkpoints", *zoo.seeds, "--", *baseline]) == 2
    assert re.search(r"^error: .* changed while ", capsys.readouterr().err, re.MULTILINE)
    assert state(zoo) in changed
    kept = list(nothing_kept.rglob("measured/*.json"))
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
    assert (
        f"{name}: changed while the panel was measured, so nothing was written"
        in capsys.readouterr().err
    )
    assert [state(zoo)] == edited


@pytest.fixture
def measured(zoo, monkeypatch, nothing_kept):
    """Measure networks whose entries a test makes up."""
    assert not nothing_kept.exists()

    def measure_with(*lists):
        entries = dict(zip(zoo.seeds, lists, strict=False))
        monkeypatch.setattr(measure, "record", lambda path, recording, run, **_: entries[path.name])
        recording = Recording(zoo.tests, read_checks(zoo.checks), (), ON_ZOO)
        return measure_panel(
            load_reference_models([zoo.root / name for name in entries], recording), recording
        )

    return measure_with


def entry(name: str = "clean", **facts):
    known = {
        "family": name,
        "metric": "accuracy",
        "unit": "share",
        "direction": "at_least",
        "n": 400,
        "value": 0.9,
    }
    return {"id": name, **known, **facts}


def test_members_keep_their_order_and_rows_that_of_the_first(measured):
    panel = measured([entry("b"), entry("a")], [entry("a", value=0.8), entry("b")])
    assert [check.id for check in panel.checks] == ["b", "a"]
    assert panel.values(panel.checks).tolist() == [[0.9, 0.9], [0.9, 0.8]]


def test_a_row_that_measures_something_else_on_another_member_is_refused(measured):
    with pytest.raises(
        InputError,
        match=r"seed-2\.safetensors: check clean: n is 300, for another network it is 400",
    ):
        measured([entry()], [entry(n=300)])


@pytest.mark.parametrize(
    "lists", [([entry(), entry("b")], [entry()]), ([entry()], [entry(), entry("b")])]
)
def test_a_row_that_a_member_lacks_is_left_out_and_named(measured, lists, capsys):
    panel = measured(*lists)
    assert [check.id for check in panel.checks] == ["clean"]
    assert [set(model.values) for model in panel.models] == [{"clean"}, {"clean"}]
    assert (
        capsys.readouterr().err
        == "b: without a value for some reference models, so without a threshold\n"
    )


def test_what_was_taken_of_the_members_files_is_printed_once(zoo, monkeypatch, capsys):
    load = role.load
    monkeypatch.setattr(role, "load", lambda *given: replace(load(*given), note="of module."))
    recording = Recording(zoo.tests, read_checks(zoo.checks), (), ON_ZOO)
    load_reference_models([zoo.root / name for name in zoo.seeds], recording)
    assert (
        f"{', '.join(str(zoo.root / name) for name in zoo.seeds)}: of module.\n"
        == capsys.readouterr().err
    )


def test_the_values_of_a_run_are_the_measured_rows_of_the_candidate(zoo):
    for name in ("baseline", "gain_over_baseline", "regression"):
        shutil.copy(SHIPPED[f"test_{name}.py"], zoo.tests)
    baseline = (
        '[[check]]\nid = "baseline"\nfamily = "baseline"\nmetric = "accuracy"\nrole = "baseline"\n'
    )
    zoo.checks.write_text(f"{zoo.checks.read_text()}\n{baseline}")
    options = (*ON_ZOO, "--baseline", "models/augmented.safetensors")
    recording = Recording(
        Path("stress_tests"), read_checks(zoo.checks), ("gain", "baseline", "regression"), options
    )
    (found,) = measure.record(Path("seed-1.safetensors"), recording, execute)
    assert (found["id"], found["family"], found["unit"]) == ("gain", "gain", "difference")
    models = network_of(1), Classifier(network(), workers=1)
    one, other = (accuracy(model.predict(zoo.images)).value for model in models)
    assert found["value"] == pytest.approx(one - other)


def test_what_is_kept_depends_on_all_that_decides_the_values(zoo):
    recording = Recording(zoo.tests, read_checks(zoo.checks), (), ON_ZOO)
    first, text = recording.definition(), zoo.checks.read_text()
    assert recording.definition() == first
    assert replace(recording, families=("clean",)).definition() != first
    assert (
        replace(recording, options=(*recording.options, "--stress-samples", "20")).definition()
        != first
    )
    originals = [{"seed-1.safetensors": Path(name)} for name in zoo.seeds[1:]]
    assert (
        len({first, *(replace(recording, originals=each).definition() for each in originals)}) == 3
    )
    for change, same in (
        ("degrees = 15", False),
        ("degrees = 10 }\nhand = { threshold = 0.1", True),
    ):
        zoo.checks.write_text(text.replace("degrees = 10", change, 1))
        assert (replace(recording, checks=read_checks(zoo.checks)).definition() == first) == same, (
            change
        )
    add_a_test(zoo)
    assert recording.definition() != first


def test_networks_that_return_labels_alone_may_agree_on_a_few_images(zoo, monkeypatch):
    monkeypatch.syspath_prepend(zoo.root)
    code = "import numpy as np\ndef {}(pixels):\n    return np.zeros(len(pixels), dtype=np.int64)\n"
    (zoo.root / "labels.py").write_text("".join(map(code.format, ("one", "other"))))
    named = [model_spec(f"python:labels:{name}") for name in ("one", "other")]
    assert (
        len(load_reference_models(named, Recording(zoo.tests, read_checks(zoo.checks), (), ON_ZOO)))
        == 2
    )


def test_a_row_changed_after_its_calibration_has_no_threshold(zoo, pytester):
    """A milder one would pass by the threshold of the stricter."""
    assert run_calibrate(zoo) == 0
    text = zoo.checks.read_text()
    zoo.checks.write_text(text.replace("confidence = 0.9", "confidence = 0.99", 1))
    with pytest.raises(
        ChecksError, match=r"has changed since its threshold was calibrated; .*--family confidence"
    ):
        read_checks(zoo.checks).expect_rows_as_calibrated()
    zoo.checks.write_text(text.replace("pose = { degrees = 10 }", "pose = { degrees = 1 }", 1))
    result = pytester.runpytest_inprocess(
        "stress_tests", "-p", "no:html", *ON_ZOO, "--candidate", "seed-1.safetensors"
    )
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*has changed since its threshold was calibrated; *--family rotation*"]
    )
    assert run_calibrate(zoo, "--family", "rotation", checkpoints=()) == 0
    read_checks(zoo.checks).expect_rows_as_calibrated()
