"""A run checks itself: damage must be noticed, and a test or a threshold that cannot fail makes the run fail."""

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import numpy as np
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
import torch
from outcomes import EMPTY, PASS
from torch import nn
from zoo import ROWS, STRESS_TESTS, Zoo, asked_to_record, checks_text, images_of, network, role_model

from harness.base.cache import Store
from harness.checks import read_checks
from harness.checks.families import damages
from harness.inference import Classifier
from harness.measures import accuracy, confident_errors
from harness.perturb import Pose
from harness.report.html import page_of
from harness.report.text import markdown, summary_lines
from harness.run import selfcheck
from harness.run.session import StressSession

# The zoo has no test that searches, nor of attention, background and corruption; see test_search.py,
# test_localisation.py and test_corruptions.py.
ELSEWHERE = ["turned-020-searched", "blind", "blurred", "maps-follow-weights"]


NOTICED_BY = {
    "left-half-blanked": "clean",
    "swapped-logits": "class",
    "turned-020": "rotation",
    "overconfident": "confidence",
}
NAMES = [
    "identity-equals-clean",
    "model-equals-itself",
    "answers-are-the-models",
    *NOTICED_BY,
    "checks-follow-the-candidate",
]
ALL_HOLD = f"{len(NAMES)} of {len(NAMES)} self-checks pass"
IMPOSSIBLE_TO_FAIL = {
    "swapped-logits": ("0.75", "0.01"),
    "left-half-blanked": ("0.85", "0.01"),
    "turned-020": ("0.5 ", "0.01 "),
    "overconfident": ("threshold = 10 ", "threshold = 399 "),
}


@pytest.fixture(scope="module")
def images():
    return images_of(400)


@pytest.fixture
def session_of(tmp_path, images):
    def build(rows=ROWS, *, model=None, images=images, cache=None) -> StressSession:
        path = tmp_path / "checks.toml"
        path.write_text(checks_text(images, rows))
        return StressSession(images, read_checks(path), {"candidate": role_model(model=model, cache=cache)})

    return build


def judge(session, check):
    """The stress tests, written down once more."""
    predictions = session.roles["candidate"].predict(session.images, check.pose)
    if check.family == "confidence":
        return session.scaled(check).judge(confident_errors(predictions, above=check.keys["confidence"]))
    return session.scaled(check).judge(accuracy(predictions, of_class=check.class_name))


def self_checks(session, judge=judge):
    """Return the checks by name, in their order, without those for which the zoo has no test."""
    made = selfcheck.self_checks(session, judge)
    found = {check.name: check for check in made}
    assert len(found) == len(made)
    assert {found.pop(name).status for name in ELSEWHERE} == {"not_applicable"}
    return found


def checks(session, judge=judge) -> dict[str, str]:
    return {name: check.status for name, check in self_checks(session, judge).items()}


def detail(session, name, judge=judge) -> str:
    return self_checks(session, judge)[name].detail


# A sound run.


def test_a_sound_run_holds_every_check(session_of):
    found = self_checks(session_of())
    assert list(found) == NAMES
    assert {check.status for check in found.values()} == {"pass"}
    harm = re.fullmatch(
        r"the mutant fails (\d+) of 400 images, (\d+) before, and check clean of family 'clean' notices",
        found["left-half-blanked"].detail,
    )
    assert harm is not None
    assert int(harm[1]) > 200
    assert int(harm[2]) < 50


def test_checks_are_made_on_a_sample_of_many_images(session_of):
    session = session_of(images=images_of(1_200))
    found = self_checks(session)
    assert {check.status for check in found.values()} == {"pass"}
    assert "1000 images" in found["identity-equals-clean"].detail


def test_a_sampled_run_is_checked_too(session_of, images):
    session = session_of()
    sampled = replace(session, images=images.take(torch.arange(5, 305)))
    assert set(checks(sampled).values()) == {"pass"}


def test_the_candidate_and_its_memory_stay_as_they_are(session_of, images):
    session = session_of()
    before = session.roles["candidate"].predict(images)
    self_checks(session)
    assert session.roles["candidate"].predict(images) is before
    assert np.array_equal(Classifier(network(), workers=1).predict(images).logits, before.logits)


# Thresholds and tests that cannot fail.


@pytest.mark.parametrize(("name", "change"), IMPOSSIBLE_TO_FAIL.items(), ids=IMPOSSIBLE_TO_FAIL)
def test_a_threshold_that_cannot_fail_is_found_and_named(session_of, name, change):
    session = session_of(ROWS.replace(*change))
    assert checks(session) == {**dict.fromkeys(NAMES, "pass"), name: "fail"}
    text = detail(session, name)
    assert f"all 1 checks of family '{NOTICED_BY[name]}' let it pass, such as " in text
    (check,) = session.checks.family(NOTICED_BY[name])
    assert f"such as {check.id}: {check.metric.replace('_', ' ')} " in text
    assert f"set thresholds that can fail in {session.checks.path}, or correct the test" in text


@pytest.mark.parametrize("family", NOTICED_BY.values())
def test_a_test_that_judges_something_else_is_found(session_of, family):
    session = session_of()

    def judge_the_undamaged(broken, check):
        return judge(session if check.family == family else broken, check)

    assert [name for name, status in checks(session, judge_the_undamaged).items() if status == "fail"] == [
        *(name for name, noticed_by in NOTICED_BY.items() if noticed_by == family),
        "checks-follow-the-candidate",
    ]


def test_one_gate_of_the_family_that_notices_is_enough(session_of):
    blunt = ROWS + ROWS[: ROWS.index('[[check]]\nid = "clean-bee"')].replace('"clean"', '"clean-too"', 1).replace(
        "0.85", "0.01"
    )
    session = session_of(blunt)
    assert checks(session)["left-half-blanked"] == "pass"
    assert "check clean of family 'clean' notices" in detail(session, "left-half-blanked")


# Checks that do not apply.


@pytest.mark.parametrize(("name", "family"), NOTICED_BY.items(), ids=NOTICED_BY)
@pytest.mark.parametrize("how", ["no-threshold", "no-row", "of-the-baseline", "not-gated"])
def test_a_family_without_thresholds_has_nothing_to_check(session_of, name, family, how):
    rows = ROWS.split("[[check]]")
    (place,) = (number for number, row in enumerate(rows) if f'family = "{family}"' in row)
    rows[place] = {
        "no-threshold": re.sub("hand = .*", "", rows[place]),
        "no-row": "",
        "of-the-baseline": rows[place] + 'role = "baseline"\n',
        "not-gated": rows[place].replace("hand", "panel") + 'informational = "reference models differ"\n',
    }[how]
    session = session_of("[[check]]".join(row for row in rows if row))
    assert checks(session) == {**dict.fromkeys(NAMES, "pass"), name: "not_applicable"}
    assert detail(session, name) == f"no check of family '{family}' that is about this has a threshold"


def test_a_family_whose_test_was_not_collected_has_nothing_to_check(session_of):
    def no_rotation(session, check):
        return None if check.family == "rotation" else judge(session, check)

    assert checks(session_of(), no_rotation)["turned-020"] == "not_applicable"
    assert detail(session_of(), "turned-020", no_rotation).startswith("no test of family 'rotation' was collected")


class Constant(nn.Module):
    """Says the first class of everything."""

    def forward(self, pixels):
        return pixels.flatten(1)[:, :4] * 0 + torch.tensor([3.0, 0.0, 0.0, 0.0])


class Certain(nn.Module):
    """Is as good as the network, and always certain."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, pixels):
        return self.network(pixels) * 1000


class RightHalf(nn.Module):
    """Sees the right half alone."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, pixels):
        return self.network(pixels * (torch.arange(16) >= 8))


@pytest.mark.parametrize(
    ("model", "harmless"),
    [
        (Constant, {"swapped-logits", "left-half-blanked", "turned-020"}),
        (Certain, {"overconfident"}),
        (RightHalf, {"left-half-blanked"}),
    ],
)
def test_where_damage_does_not_hurt_this_model_predictions_are_replaced(session_of, model, harmless):
    session = session_of(model=model())
    found = self_checks(session)
    assert {check.status for check in found.values()} == {"pass"}
    assert {name for name, check in found.items() if check.detail.startswith("no harm to this model")} == harmless
    for name in harmless:
        assert re.fullmatch(
            r"no harm to this model: its copy fails (\d+) of 400 images, \d+ before; of predictions that are all "
            rf"wrong, or random, check .* of family '{NOTICED_BY[name]}' notices",
            found[name].detail,
        )


@pytest.mark.parametrize("name", ["left-half-blanked", "swapped-logits", "turned-020"])
def test_where_damage_does_not_hurt_this_model_the_incumbent_is_damaged(session_of, name):
    session = session_of(model=Constant())
    incumbent = replace(role_model("incumbent"), model_sha256="i" * 64)
    both = replace(session, roles={**session.roles, "incumbent": incumbent})
    assert re.search("of the incumbent, the mutant fails .* notices", detail(both, name))

    def judge_the_incumbent(broken, check):
        roles = {**broken.roles, "candidate": broken.roles["incumbent"]}
        return judge(replace(broken, roles=roles), check)

    found = self_checks(both, judge_the_incumbent)
    assert (found[name].status, found["checks-follow-the-candidate"].status) == ("fail", "fail")


def test_a_lax_threshold_is_found_though_damage_does_not_hurt_this_model(session_of):
    session = session_of(ROWS.replace("0.85", "0.01"), model=Constant())
    incumbent = replace(role_model("incumbent"), model_sha256="i" * 64)
    assert checks(replace(session, roles={**session.roles, "incumbent": incumbent}))["left-half-blanked"] == "fail"


def test_a_model_that_damage_improves_is_not_hurt(session_of):
    """It predicts bees as cats and cats as bees, so swapping them is a cure."""
    swapped = network()
    with torch.no_grad():
        for values in (swapped.fc1.weight, swapped.fc1.bias):
            values.copy_(values[[0, 2, 1, 3]])
    assert detail(session_of(model=swapped), "swapped-logits").startswith("no harm to this model")


@pytest.mark.parametrize("name", ["ant", "dog"])
def test_the_classes_swapped_are_those_that_a_gate_watches(session_of, name):
    session = session_of(ROWS.replace('"bee"', f'"{name}"'))
    assert checks(session)["swapped-logits"] == "pass"


def test_a_gate_for_a_class_that_the_data_lack_is_not_damaged(session_of):
    found = [damage.name for damage in damages(session_of(ROWS.replace('"bee"', '"yak"')).checks).values()]
    assert [name for name in found if name not in ELSEWHERE] == list(NOTICED_BY)


# Models that do not answer the same twice.


class Wavering(nn.Module):
    """Adds noise to its answers, anew each time."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.network, self.noise = network(), noise

    def forward(self, pixels):
        logits = self.network(pixels)
        return logits + self.noise * torch.randn_like(logits)


def test_a_model_that_wavers_is_found_by_both_equalities(session_of):
    found = self_checks(session_of(model=Wavering(3.0)))
    assert (found["identity-equals-clean"].status, found["model-equals-itself"].status) == ("fail", "fail")
    assert "not deterministic" in found["identity-equals-clean"].detail
    assert re.match(
        r"c\.safetensors: asked as it was given, [1-9]\d* of 32 images get other logits, .*or answers at random",
        found["model-equals-itself"].detail,
    )


def test_a_model_whose_last_bits_waver_is_found_by_the_identity(session_of):
    found = checks(session_of(model=Wavering(1e-4)))
    assert (found["identity-equals-clean"], found["model-equals-itself"]) == ("fail", "pass")


# Answers that are not the model's.


@dataclass(frozen=True)
class NoiseOfABatch:
    """Draws one noise for all of a batch: an image's own depends on those before it."""

    def __call__(self, images):
        return images + torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


class Stale(Store):
    """When it is stale, it has answers that another model gave: the first class for every image."""

    stale = False

    def load(self, key, shape):
        return (
            np.eye(1, shape[1], dtype=np.float32).repeat(shape[0], axis=0) if self.stale else super().load(key, shape)
        )


@pytest.fixture
def stale_in(session_of, tmp_path):
    """A run with a cache of stale answers for these poses, and sound ones for clean images."""

    def build(*poses) -> StressSession:
        cache = Stale(tmp_path / "predictions")
        session = session_of(cache=cache)
        candidate = session.roles["candidate"]
        candidate.predict(session.images)
        cache.stale = True
        for pose in poses:
            candidate.predict(session.images, pose)
        cache.stale = False
        return session

    return build


def test_stale_answers_of_the_cache_are_found_by_one_check_alone(stale_in):
    session = stale_in(Pose(10))
    assert checks(session) == {**dict.fromkeys(NAMES, "pass"), "answers-are-the-models": "fail"}
    said = re.match(
        r"(\d+) of 64 predictions of this run are others when predicted anew, as under "
        rf"{re.escape(str(Pose(10)))}: "
        r"it keeps state, or the cache is of another\. Empty it with `stress-harness cache --clear`",
        detail(session, "answers-are-the-models"),
    )
    assert 16 <= int(said[1]) <= 32, "what the model takes for other classes, and no image at rest"


def test_of_many_perturbations_some_are_asked_for_again(stale_in):
    session = stale_in(*(Pose(degrees) for degrees in range(1, 40)))
    text = detail(session, "answers-are-the-models")
    assert re.match(r"[1-9]\d* of 448 predictions of this run are others", text), "of 14 perturbations, 32 images each"


def test_a_perturbation_that_depends_on_the_batch_is_named(session_of):
    session = session_of()
    session.roles["candidate"].predict(session.images, NoiseOfABatch())
    assert re.search(
        r"under NoiseOfABatch\(\):.* Your own perturbations must change an image alike in any batch",
        detail(session, "answers-are-the-models"),
    )


# A check that fails makes the run fail.

OUTCOME = replace(EMPTY, verdicts=(PASS,))


def test_an_unsound_run_is_an_error_in_every_report(session_of):
    sound = replace(OUTCOME, self_checks=tuple(self_checks(session_of()).values()))
    assert (sound.verdict, sound.exit_status) == ("pass", 0)
    assert ALL_HOLD in summary_lines(sound, Path("reports"))
    checked = self_checks(session_of(ROWS.replace("0.85", "0.01")))
    unsound = replace(OUTCOME, self_checks=tuple(checked.values()))
    assert (unsound.verdict, unsound.exit_status) == ("error", 4)
    (failed,) = (check for check in unsound.self_checks if check.status == "fail")
    line = f"[SELF_CHECK] self-check {failed.name}: {failed.detail}"
    assert f"  inconclusive: {line}" in summary_lines(unsound, Path("reports"))
    assert f"{len(NAMES) - 1} of {len(NAMES)} self-checks pass" in summary_lines(unsound, Path("reports"))
    assert f"**inconclusive**: {line}" in markdown(unsound)
    assert "<td>left-half-blanked</td><td>✗ fails</td>" in page_of(unsound)
    (told,) = (check for check in json.loads(json.dumps(unsound.as_json()))["self_checks"] if check["status"] == "fail")
    assert told == {"name": "left-half-blanked", "status": "fail", "detail": failed.detail}


# Through pytest.


@pytest.fixture(autouse=True)
def cache_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def gate_run(pytester):
    zoo = Zoo(pytester.path)

    def run(*arguments, record=None):
        # Without the page, whose figures take longest; a recording must have none by itself.
        pages = () if record else ("-p", "no:html")
        with asked_to_record(record):
            result = pytester.runpytest_inprocess(
                *pages, "--stress-set", f"data={zoo.data}", "stress_tests", *arguments
            )
        path = zoo.root / "reports/stress.json"
        report = json.loads(path.read_text()) if path.exists() else None
        return result, report

    run.zoo = zoo
    return run


def statuses(report) -> dict[str, str]:
    return {check["name"]: check["status"] for check in report["self_checks"] if check["name"] not in ELSEWHERE}


def test_every_run_checks_itself_once(gate_run):
    result, report = gate_run()
    assert result.ret == 0
    assert statuses(report) == dict.fromkeys(NAMES, "pass")
    assert len(report["self_checks"]) == len(NAMES + ELSEWHERE)
    result.stdout.fnmatch_lines([ALL_HOLD])


def test_a_partial_run_checks_the_tests_that_it_leaves_out(gate_run):
    result, report = gate_run("-k", "rotation")
    assert (result.ret, report["verdict"]) == (0, "partial")
    assert statuses(report) == dict.fromkeys(NAMES, "pass")


BASELINE = ("clean", "left-half-blanked", ("candidate", "baseline"))
CONSTANT = (
    "rotation",
    "turned-020",
    (r"stress_check\.judge\(.*\)", "stress_check.judge(Measurement(METRICS['accuracy'], 0.95, 400, (0.9, 1.0)))"),
)
NEVER = ("confident_errors", "overconfident", (r"above=stress_check\[CONFIDENCE\]", "above=1.0"))


@pytest.mark.parametrize(
    ("workers", "test", "check", "change"),
    [((), *BASELINE), ((), *NEVER), ((), *CONSTANT), pytest.param(("-n", "2"), *CONSTANT, marks=pytest.mark.processes)],
    ids=["the-baseline-instead", "nothing-counts", "a-constant", "a-constant-n2"],
)
def test_a_stress_test_that_always_passes_ends_with_4(gate_run, workers, test, check, change):
    path = gate_run.zoo.tests / f"test_{test}.py"
    sound = path.read_text()
    path.write_text("from harness.measures import METRICS, Measurement  # noqa: F401\n" + re.sub(*change, sound))
    assert re.sub(*change, sound) != sound
    gate_run.zoo.save("baseline.safetensors", seed=1, jitter=0.1)
    result, report = gate_run("--baseline", "baseline.safetensors", *workers)
    assert result.ret == 4
    assert report["verdict"] == "error"
    others = {each["status"] for each in report["checks"] if test not in each["id"]}
    assert others == {"pass"}, "no other check says so"
    assert statuses(report)[check] == "fail"
    assert len(report["self_checks"]) == len(NAMES + ELSEWHERE), "once, though there may be workers"
    result.stdout.fnmatch_lines([f"*self-check {check}: *let it pass, such as *correct the test*"])


def test_a_model_that_wavers_cannot_be_judged(gate_run):
    (gate_run.zoo.root / "wavering.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Wavering(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(1, 1)\n\n"
        "    def forward(self, pixels):\n"
        "        return torch.randn_like(pixels.flatten(1)[:, :4])\n"
    )
    torch.save({"fc.weight": torch.ones(1, 1), "fc.bias": torch.zeros(1)}, gate_run.zoo.root / "wavering.pth")
    result, report = gate_run("--candidate", "wavering.pth", "--stress-set", "model=wavering:Wavering")
    assert result.ret == 4
    assert statuses(report)["identity-equals-clean"] == "fail"
    result.stdout.fnmatch_lines(["*self-check identity-equals-clean: *not deterministic"])


@pytest.mark.parametrize(
    ("line", "status", "check"),
    [
        ("pytest.skip('not for this model')", 0, ("turned-020", "not_applicable")),
        ("raise RuntimeError('lost')", 4, ("self-checks", "fail")),
        ("pytest.fail('no')", 0, ("turned-020", "not_applicable")),
    ],
    ids=["skip", "raise", "fail"],
)
def test_a_stress_test_that_ends_otherwise_on_mutants_has_a_verdict(gate_run, line, status, check):
    """Whatever a test of the user's does in a self-check, the run ends with a report."""
    path = gate_run.zoo.tests / "test_rotation.py"
    condition = "candidate.classifier.predict(images).correct.mean() < 0.6"
    path.write_text(
        "import pytest\n" + re.sub(r"( +)(verdict = )", rf"\1if {condition}:\n\1\1{line}\n\1\2", path.read_text())
    )
    try:
        result, report = gate_run()
    except BaseException as error:  # A skip would skip this test here.
        raise AssertionError(f"the run ended with {error!r}") from error
    assert (result.ret, report["verdict"]) == (status, "error" if status else "pass")
    assert check in {(found["name"], found["status"]) for found in report["self_checks"]}
    result.stdout.fnmatch_lines(["report: *stress.html"])


# Recording.


def assert_nothing_was_judged(result, recorded):
    """A recording never looks like a verdict, and nothing went wrong in it."""
    assert (result.ret, recorded["verdict"], recorded["errors"]) == (4, "error", [])
    result.stdout.fnmatch_lines(["  partial: no threshold of *checks.toml judged the candidate"])


def test_recording_all_measures_what_a_run_does_and_judges_nothing(gate_run):
    bad = str(gate_run.zoo.save("bad.safetensors", jitter=3.0))
    result, judged = gate_run("--candidate", bad)
    assert result.ret == 1
    assert {check["status"] for check in judged["checks"]} >= {"fail"}
    result, recorded = gate_run("--candidate", bad, record="all")
    assert_nothing_was_judged(result, recorded)
    assert {check["status"] for check in recorded["checks"]} == {"informational"}
    assert {check["threshold"] for check in recorded["checks"]} == {None}
    assert recorded["self_checks"] == []
    for name in ("id", "value", "n", "interval", "metric", "unit", "direction"):
        assert [check[name] for check in recorded["checks"]] == [check[name] for check in judged["checks"]]


@pytest.mark.parametrize(
    ("families", "ids"),
    [("class", ["clean-bee"]), ("rotation,clean", ["clean", "rotate-ccw-010"])],
    ids=["one", "two"],
)
def test_recording_families_measures_these_alone(gate_run, families, ids):
    result, recorded = gate_run(record=families)
    assert_nothing_was_judged(result, recorded)
    assert [check["id"] for check in recorded["checks"]] == ids
    assert {check["status"] for check in recorded["checks"]} == {"informational"}


def test_recording_a_family_that_no_test_is_of_measures_nothing(gate_run):
    result, recorded = gate_run(record="none-such")
    assert_nothing_was_judged(result, recorded)
    assert recorded["checks"] == []


def test_recording_still_refuses_a_baseline_that_is_not_what_it_should_be(gate_run):
    row = ROWS.split("[[check]]")[1].replace('"clean"', '"baseline"') + 'role = "baseline"\n'
    gate_run.zoo.bind(f"{ROWS}[[check]]{row}")
    shutil.copy(STRESS_TESTS / "test_baseline.py", gate_run.zoo.tests)
    gate_run.zoo.save("baseline.safetensors", blind=True)
    result, report = gate_run("--baseline", "baseline.safetensors", record="all")
    assert (result.ret, report["verdict"]) == (4, "error")
    result.stdout.fnmatch_lines(["*baseline: accuracy 0.2500 < threshold 0.8500*the baseline fails its own check*"])
