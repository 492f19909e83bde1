"""A plan counts the requests of tests without the model, and knows earlier results."""

import re
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from panels import with_panel
from zoo import CLASSES, ROWS, GatedZoo, checks_text, images_of, role_model

from harness.base.cache import Store
from harness.base.errors import InputError
from harness.calibration.summary import detectable_drop, planned_drop
from harness.checks import read_checks
from harness.cli import main
from harness.inference.search import first_failures
from harness.inference.standins import Ledger, counting
from harness.measures import accuracy, confident_errors
from harness.perturb import Pose
from harness.report.costs import plan_lines
from harness.run import plan
from harness.run.budget import CHECKS, OVERVIEW, duration
from harness.run.plan import asked_by, measured_costs, plan_of
from harness.run.session import OtherImages, StressSession
from harness.run.time_limit import TimeLimitExceededError

_MEANS = {"clean": 0.9, "clean-bee": 0.9, "rotate-ccw-010": 0.68, "confident-errors": 8.0}


def _by_panel(row: str) -> str:
    """Return a row with a threshold of the panel in place of that by hand."""
    name = re.search(r'id = "(.*)"', row)[1]
    return with_panel(re.sub("hand = .*", "", row), mean=_MEANS[name])


_EACH = [f"[[check]]{row}" for row in ROWS.split("[[check]]")[1:]]
BY_PANEL = "\n".join(map(_by_panel, _EACH))
ALMOST_BY_PANEL = "\n".join([*map(_by_panel, _EACH[:-1]), _EACH[-1]])
"""Thresholds that the network keeps: all by a panel, or all but that on confident errors."""
POSES = tuple(Pose(degrees) for degrees in (10, 5, -5))


@pytest.fixture
def images():
    return images_of(40)


@pytest.fixture
def session(tmp_path, images):
    path = tmp_path / "checks.toml"
    path.write_text(checks_text(images, ROWS))
    candidate = role_model(cache=Store(tmp_path / "cache"))
    return StressSession(images, read_checks(path), {"candidate": candidate})


def judge(session, check):
    predictions = session.roles["candidate"].predict(session.images, check.pose)
    if check.family == "confidence":
        return session.scaled(check).judge(
            confident_errors(predictions, above=check.keys["confidence"])
        )
    return session.scaled(check).judge(accuracy(predictions, of_class=check.class_name))


def test_each_pass_counts_once_under_the_name_that_asked_first(session, images):
    ledger = Ledger()
    planned = counting(session.roles["candidate"], ledger)
    with ledger.under("clean"):
        assert planned.predict(images).correct.all()
    with ledger.under("rotation"):
        planned.predict(images)
        planned.predict(images, Pose(10))
    assert {name: (asked.passes, asked.poses) for name, asked in ledger.asked.items()} == {
        "clean": (1, 40),
        "rotation": (1, 40),
    }


def test_a_search_is_counted_to_its_end(session, images):
    ledger = Ledger()
    found = first_failures(counting(session.roles["candidate"], ledger).classifier, images, POSES)
    assert found.right_everywhere.all()
    assert ledger.now.poses == len(POSES) * 40


def test_what_the_cache_has_costs_nothing_and_is_what_it_has(session, images):
    real = session.roles["candidate"].predict(images, Pose(10))
    ledger = Ledger()
    planned = counting(session.roles["candidate"], ledger).predict(images, Pose(10))
    assert np.array_equal(planned.answers, real.answers)
    assert (ledger.now.poses, ledger.now.cached) == (0, 40)


def test_a_plan_runs_no_test_on_the_model(session):
    """Nothing is asked of the candidate itself.

    Self-checks and overview have lines of their own.
    """
    asked = asked_by(session, session.checks.checks, judge).asked
    assert session.roles["candidate"].classifier.answered == ()
    assert list(asked)[-2:] == [CHECKS, OVERVIEW]
    assert asked["rotation"].poses == 40
    assert OVERVIEW not in asked_by(session, session.checks.checks, judge, overview=False).asked


def test_a_promise_is_for_the_smallest_class_and_for_accuracies_alone(session):
    checks = [
        replace(session.checks.checks[0], id=family, family=family, class_name=name)
        for family, name in (
            ("class", None),
            ("class", CLASSES[0]),
            ("rotation", None),
            ("flips", None),
        )
    ]
    lines = plan_of(session, checks, judge, overview=False).lines
    assert [lines[family].fewest for family in ("class", "rotation", "flips")] == [10, 40, 40]
    assert planned_drop("class", lines["class"]) == detectable_drop("class", images=10, checks=2)
    assert planned_drop("rotation", lines["rotation"]) == detectable_drop(
        "rotation", images=40, checks=1
    )
    assert planned_drop("flips", lines["flips"]) is None
    assert planned_drop("own-family", lines["flips"]) is not None
    assert planned_drop("class", replace(lines["class"], fewest=1)) is None, "no drop is that large"


@pytest.mark.parametrize(
    ("keys", "fewest"),
    [
        ({"group": "a"}, 30),
        ({"group": "b"}, 10),
        ({}, 10),
        ({"least": 20}, 30),
        ({"group": ["a", "b"]}, 10),
    ],
)
def test_a_promise_is_for_the_smallest_group(session, keys, fewest):
    images = replace(session.images, groups={"camera": np.array(["a"] * 30 + ["b"] * 10)})
    check = replace(session.checks.checks[0], family="slice", keys={"by": "camera", **keys})
    lines = plan_of(replace(session, images=images), [check], judge, overview=False).lines
    assert lines["slice"].fewest == fewest


def test_a_family_with_images_of_its_own_is_planned_on_all_of_them(session):
    check = replace(session.checks.checks[0], id="own", family="golden")
    golden = OtherImages(of_rows={"golden": images_of(1_000)})
    session = replace(session, other_images=golden)

    def judge(session, check):
        return check.judge(
            accuracy(session.roles["candidate"].predict(session.other_images.of_rows["golden"]))
        )

    lines = plan_of(session, [check], judge, overview=False, budget=0.0).lines
    assert [getattr(lines["golden"], name) for name in ("images", "out_of", "poses")] == [1_000] * 3


def test_a_test_that_fails_on_made_up_answers_does_not_end_the_plan(session):
    def failing(session, check):
        judge(session, check)
        raise ZeroDivisionError

    assert (
        asked_by(session, session.checks.checks, failing, overview=False).asked["clean"].poses == 40
    )


def test_a_test_that_takes_too_long_is_named_and_the_others_are_counted(session, monkeypatch):
    @contextmanager
    def limit(seconds, what):
        assert 0 < seconds <= plan.EACH
        yield
        if what == "rotation":
            raise TimeLimitExceededError

    with monkeypatch.context() as patched:
        patched.setattr(plan, "time_limit", limit)
        counted = asked_by(session, session.checks.checks, judge, overview=False)
    assert counted.uncounted == ("rotation",)
    assert counted.asked["clean"].poses == 40
    said = "\n".join(
        plan_lines(
            replace(plan_of(session, (), judge, overview=False), uncounted=counted.uncounted)
        )
    )
    assert "not counted to the end, since its tests took too long: rotation; it takes more" in said


def test_a_model_that_takes_too_long_has_no_costs(session, monkeypatch):
    monkeypatch.setattr(plan, "MEASURING", 0.2)
    monkeypatch.setattr(plan, "_seconds", lambda *_, **__: time.sleep(60))
    with pytest.raises(InputError, match=r"its first batches took longer than 0\.2 s"):
        measured_costs(session)


def test_time_follows_from_what_is_asked_and_a_measured_batch(session):
    made = plan_of(session, session.checks.checks, judge, overview=False)
    assert made.costs.seconds_per_pose > 0
    each = made.costs.seconds_per_pose / made.costs.cores
    assert made.costs.seconds(made.total) == pytest.approx(made.total.poses * each)
    assert measured_costs(session).peak_bytes > 1 << 20


@pytest.mark.parametrize(
    ("seconds", "words"), [(2.34, "2.3 s"), (59.7, "60 s"), (720, "12 min"), (36_000, "10.0 h")]
)
def test_times_are_said_in_the_unit_that_suits_them(seconds, words):
    assert duration(seconds) == words


# Plans and budgets of the gate.


@pytest.mark.parametrize(
    "how", [("--stress-plan",), ("--stress-budget", "20m")], ids=["plan", "budget"]
)
def test_a_model_that_gives_no_answer_is_told(shared, monkeypatch, how):
    monkeypatch.setattr(plan, "_seconds", lambda *_, **__: 1 / 0)
    ran = shared.once(*how, files={"note": "no answer"})
    assert ran.ret == 4
    assert "its first batch failed" in ran.said


def test_a_plan_in_place_of_a_run_judges_nothing_and_leaves_no_report(shared):
    ran = shared.once("--stress-plan", "-n", "2")
    assert ran.ret == 0
    ran.stdout.fnmatch_lines(
        ["*what a run would cost*", "rotation *", "self-checks *", "overview *", "all *"]
    )
    assert "checks pass" not in ran.said
    assert ran.files == []


def test_a_budget_names_samples_for_the_checks_file(shared):
    uncalibrated = "\n".join([*(re.sub("hand = .*", "", row) for row in _EACH[:-1]), _EACH[-1]])
    ran = shared.once("--stress-plan", "--stress-budget", "0.001s", rows=uncalibrated)
    assert ran.ret == 0
    ran.stdout.fnmatch_lines(["*[[]data.samples]*", "clean * = 100  # *"])
    ran.stdout.fnmatch_lines(
        ["not sampled, because their checks have thresholds set by hand: confidence"]
    )
    ran.stdout.no_fnmatch_line("confidence = *")
    shared.once("--stress-plan", "--stress-budget", "9h").stdout.fnmatch_lines(
        ["all images fit into 9.0 h on *"]
    )


def test_a_plan_for_a_calibration_counts_what_only_that_makes_known(pytester):
    """A run of the same file would not ask it.

    Nobody has recorded yet what reference models know.
    """
    zoo = GatedZoo(pytester, tests=("clean", "consensus"))
    row = (
        '[[check]]\nid = "known"\nfamily = "consensus"\nmetric = "consensus_set_errors"\n'
        'under = ["rest", "mirrored"]\n'
    )
    zoo.bind(f"{row}\n[[check]]{ROWS.split('[[check]]')[1]}")
    zoo.run("--stress-plan", "--stress-budget", "0.001s").stdout.fnmatch_lines(["consensus = 100"])
    zoo.run("--stress-plan").stdout.re_match_lines([r"consensus +400 +400 +4 +0 +0 +0 +0 +0 s"])


def test_golden_images_change_no_samples_and_have_none(zoo, monkeypatch):
    monkeypatch.chdir(zoo.root)
    zoo.bind(BY_PANEL)

    def named() -> list[str]:
        lines = zoo.run("--stress-plan", "--stress-budget", "0.001s").stdout.str().splitlines()
        return [line for line in lines if " = " in line]

    before = named()
    assert len(before) == 4
    data = ("--", "--stress-set", f"data={zoo.data}")
    assert main(["golden", "add", *map(str, range(120)), "--reason", "seen", *data]) == 0
    assert named() == before


def test_a_run_that_does_not_fit_is_sampled_but_for_thresholds_by_hand(shared):
    ran = shared.once("--stress-budget", "0.001s", "--stress-no-cache", rows=ALMOST_BY_PANEL)
    assert ran.ending == (0, "partial")
    sizes = {
        check["family"]: check["n"] for name, check in ran.checks.items() if name != "clean-bee"
    }
    assert sizes == {"clean": 100, "rotation": 100, "confidence": 400}
    for said in ("to fit into the time given, some families", "rotated images (25%)"):
        assert said in ran.why
    ran.stdout.fnmatch_lines(
        [
            "stress: 4 checks on 400 images of zoo: 1,200 image-poses, *about * on * GB of memory*",
            "stress: samples are chosen that fit into 0.001 s, if need be",
            "stress: not sampled, because their checks have thresholds set by hand: confidence",
        ]
    )


def test_what_the_cache_has_takes_no_time_of_a_budget(shared):
    assert shared.once().ending == (0, "pass")
    assert shared.once("--stress-budget", "0.001s").ending == (0, "pass")


def test_a_run_that_fits_is_whole_and_a_recording_takes_no_sample(shared):
    ran = shared.once("--stress-budget", "9h")
    assert ran.ending == (0, "pass")
    ran.stdout.fnmatch_lines(["stress: all images fit into 9.0 h on *: they take about *"])
    ran = shared.once("--stress-budget", "0.001s", record="clean")
    assert [check["n"] for check in ran.report["checks"]] == [400]
