"""A run checks itself.

Damage must be noticed, and a test or a threshold that cannot fail makes the run fail.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from outcomes import EMPTY, FAIL, PASS, outcome_with
from panels import with_panel
from torch import nn
from zoo import ROWS, STRESS_TESTS, checks_text, images_of, network, role_model

from harness.base.cache import Store
from harness.checks import read_checks
from harness.checks.families import damages
from harness.inference import Classifier
from harness.measures import accuracy, confident_errors
from harness.perturb import Pose
from harness.report.html import page_of
from harness.report.text import markdown, summary_lines
from harness.run import self_checks as module
from harness.run import steadiness
from harness.run.session import StressSession
from harness.run.stress_json import stress_json

# The zoo has no test that searches, nor of attention, background and corruption; see
# test_search.py, test_localisation.py and test_corruptions.py.
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
ALL_PASS = dict.fromkeys(NAMES, "pass")
ALL_HOLD = f"{len(NAMES)} of {len(NAMES)} self-checks pass"
IMPOSSIBLE_TO_FAIL = {
    "swapped-logits": ("0.75", "0.01"),
    "left-half-blanked": ("0.85", "0.01"),
    "turned-020": ("0.5 ", "0.01 "),
    "overconfident": ("threshold = 10 ", "threshold = 399 "),
}
IMAGES = images_of(400)


@pytest.fixture
def session_of(tmp_path):
    def build(rows=ROWS, *, model=None, images=IMAGES, cache=None) -> StressSession:
        path = tmp_path / "checks.toml"
        path.write_text(checks_text(images, rows))
        return StressSession(
            images, read_checks(path), {"candidate": role_model(model=model, cache=cache)}
        )

    return build


def judge(session, check):
    """The stress tests, written down once more."""
    predictions = session.roles["candidate"].predict(session.images, check.pose)
    if check.family == "confidence":
        return session.scaled(check).judge(
            confident_errors(predictions, above=check.keys["confidence"])
        )
    return session.scaled(check).judge(accuracy(predictions, of_class=check.class_name))


def self_checks(session, judge=judge):
    """Return the checks by name, in their order, without those for which the zoo has no test."""
    made = module.self_checks(session, judge)
    found = {check.name: check for check in made}
    assert len(found) == len(made)
    assert {found.pop(name).status for name in ELSEWHERE} == {"not_applicable"}
    return found


def statuses(found) -> dict[str, str]:
    return {name: check.status for name, check in found.items()}


def noticed(session, name, judge=judge):
    """Return what one self-check of a mutant finds, by its name."""
    family, damage = next(
        (family, each) for family, each in damages(session.checks).items() if each.name == name
    )
    return module.is_noticed(family, damage, session, judge)


# A sound run.


def test_a_sound_run_holds_every_check_and_changes_nothing(session_of):
    session = session_of()
    before = session.roles["candidate"].predict(IMAGES)
    found = self_checks(session)
    assert statuses(found) == ALL_PASS
    assert list(found) == NAMES
    harm = re.fullmatch(
        r"the mutant fails (\d+) of 400 images, (\d+) before, and check clean of family 'clean' "
        r"notices",
        found["left-half-blanked"].detail,
    )
    assert harm is not None
    assert int(harm[1]) > 200
    assert int(harm[2]) < 50
    assert session.roles["candidate"].predict(IMAGES) is before
    assert np.array_equal(Classifier(network(), workers=1).predict(IMAGES).logits, before.logits)


def test_checks_are_made_on_a_sample_of_many_images_and_on_few(session_of):
    found = self_checks(session_of(images=images_of(1_200)))
    assert statuses(found) == ALL_PASS
    assert "1000 images" in found["identity-equals-clean"].detail
    assert (
        statuses(self_checks(replace(session_of(), images=IMAGES.take(torch.arange(5, 305)))))
        == ALL_PASS
    )


# Thresholds and tests that cannot fail.


@pytest.mark.parametrize(("name", "change"), IMPOSSIBLE_TO_FAIL.items(), ids=IMPOSSIBLE_TO_FAIL)
def test_a_threshold_that_cannot_fail_is_found_and_named(session_of, name, change):
    session = session_of(ROWS.replace(*change))
    found = self_checks(session)
    assert statuses(found) == {**ALL_PASS, name: "fail"}
    text = found[name].detail
    assert f"all 1 checks of family '{NOTICED_BY[name]}' let it pass, such as " in text
    (check,) = session.checks.family(NOTICED_BY[name])
    assert f"such as {check.id}: {check.metric.replace('_', ' ')} " in text
    assert f"set thresholds that can fail in {session.checks.path}, or correct the test" in text


@pytest.mark.parametrize(("name", "family"), NOTICED_BY.items(), ids=NOTICED_BY)
def test_a_test_that_judges_something_else_is_found(session_of, name, family):
    session = session_of()

    def judge_the_undamaged(broken, check):
        return judge(session if check.family == family else broken, check)

    found = statuses(self_checks(session, judge_the_undamaged))
    assert found == {**ALL_PASS, name: "fail", "checks-follow-the-candidate": "fail"}


def test_one_check_of_the_family_that_notices_is_enough(session_of):
    blunt = ROWS[: ROWS.index('[[check]]\nid = "clean-bee"')].replace('"clean"', '"clean-too"', 1)
    finding = noticed(session_of(ROWS + blunt.replace("0.85", "0.01")), "left-half-blanked")
    assert finding.holds
    assert "check clean of family 'clean' notices" in finding.detail


# Thresholds that are beyond a mutant by arithmetic.

PARTS = dict(
    zip(
        ("clean", "clean-bee", "rotate-ccw-010", "confident-errors"),
        ROWS.split("[[check]]")[1:],
        strict=True,
    )
)
"""The rows by their ids."""


def with_lenient_panel(name, **panel):
    """Return the rows with a threshold, with one reference model, by `panels.with_panel`."""
    by_panel = with_panel("[[check]]" + re.sub("hand = .*", "", PARTS[name]), **panel)
    return "".join(by_panel if part == name else f"[[check]]{PARTS[part]}" for part in PARTS)


@pytest.mark.parametrize(
    "rows",
    [
        ROWS.replace("hand = { threshold = 10 }", "hand = { threshold = 60 }"),
        with_lenient_panel("confident-errors", mean=50.0, std=2.0, k=5.0),
    ],
    ids=["hand", "panel"],
)
def test_an_accuracy_at_which_overconfidence_cannot_fail_changes_no_status(session_of, rows):
    """The network errs on fewer than 60 images, so no confidence makes 60 confident errors."""
    session = session_of(rows)
    found = self_checks(session)
    assert statuses(found) == {**ALL_PASS, "overconfident": "not_applicable"}
    detail = found["overconfident"].detail
    assert detail.startswith(
        "this check cannot notice overconfidence at this accuracy: the mutant fails "
    )
    assert re.search(
        r"For example, confident-errors has \d+ for the mutant, and its threshold is 6\d$", detail
    )

    outcome = outcome_with(EMPTY, verdicts=(PASS,), self_checks=tuple(found.values()))
    assert (outcome.verdict, outcome.exit_status) == ("pass", 0)
    line = f"self-check overconfident: {detail}"
    assert line in summary_lines(outcome, Path("reports"))
    assert "cannot notice overconfidence at this accuracy" in markdown(outcome)
    assert "cannot notice overconfidence at this accuracy" in page_of(outcome)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("left-half-blanked", "clean"),
        ("swapped-logits", "clean-bee"),
        ("turned-020", "rotate-ccw-010"),
    ],
)
def test_a_lenient_threshold_of_reference_models_changes_no_status(session_of, name, row):
    session = session_of(with_lenient_panel(row, mean=0.02, std=0.001, k=3.0))
    found = self_checks(session)
    assert statuses(found) == {**ALL_PASS, name: "not_applicable"}
    assert found[name].detail.startswith("this check cannot notice ")

    def judge_the_undamaged(broken, check):
        return judge(session if check.id == row else broken, check)

    blind = statuses(self_checks(session, judge_the_undamaged))
    assert blind == {**ALL_PASS, name: "fail", "checks-follow-the-candidate": "fail"}, (
        "the test ignores the candidate"
    )


@pytest.mark.parametrize(("by_hand", "status"), [(False, "pass"), (True, "fail")])
def test_a_threshold_that_no_candidate_misses_is_an_error_by_hand_alone(
    session_of, by_hand, status
):
    """Few models may differ so much that no candidate loses as many predictions."""
    rows = with_lenient_panel("clean-bee", mean=0.1, std=0.02, k=3.0)
    if by_hand:
        bee = re.sub(r"hand = .*", "hand = { threshold = 0.04 }", PARTS["clean-bee"])
        rows = ROWS.replace(PARTS["clean-bee"], bee)

    def judge_with_a_least_value(session, check):
        verdict = judge(session, check)
        if check.id != "clean-bee" or verdict is None or verdict.value is None:
            return verdict
        return replace(verdict, value=max(verdict.value, 0.05), status="pass")

    found = self_checks(session_of(rows), judge_with_a_least_value)["checks-follow-the-candidate"]
    assert found.status == status
    assert found.check == ("clean-bee" if by_hand else "")
    said = "a candidate which is wrong on all images keeps the threshold of clean-bee"
    assert found.detail.endswith(said) != by_hand


# Checks that do not apply.


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("left-half-blanked", lambda row: re.sub("hand = .*", "", row)),
        ("swapped-logits", lambda row: ""),
        ("turned-020", lambda row: row + 'role = "baseline"\n'),
        (
            "overconfident",
            lambda row: (
                row.replace("hand", "panel") + 'informational = "reference models differ"\n'
            ),
        ),
    ],
    ids=["no-threshold", "no-row", "of-the-baseline", "informational"],
)
def test_a_family_without_thresholds_has_nothing_to_check(session_of, name, change):
    family = NOTICED_BY[name]
    rows = [
        change(row) if f'family = "{family}"' in row else row for row in ROWS.split("[[check]]")
    ]
    found = self_checks(session_of("[[check]]".join(row for row in rows if row)))
    assert statuses(found) == {**ALL_PASS, name: "not_applicable"}
    assert found[name].detail == f"no check of family '{family}' that is about this has a threshold"


def test_a_family_whose_test_was_not_collected_has_nothing_to_check(session_of):
    def no_rotation(session, check):
        return None if check.family == "rotation" else judge(session, check)

    found = self_checks(session_of(), no_rotation)["turned-020"]
    assert found.status == "not_applicable"
    assert found.detail.startswith("no test of family 'rotation' was collected")


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


class RightHalf(Certain):
    """Sees the right half alone."""

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
def test_where_damage_does_not_hurt_this_model_predictions_are_replaced(
    session_of, model, harmless
):
    found = self_checks(session_of(model=model()))
    assert statuses(found) == ALL_PASS
    assert {
        name for name, check in found.items() if check.detail.startswith("no harm to this model")
    } == harmless
    for name in harmless:
        assert re.fullmatch(
            r"no harm to this model: its copy fails (\d+) of 400 images, \d+ before; of "
            rf"predictions that are all wrong, or random, check .* of family '{NOTICED_BY[name]}' "
            r"notices",
            found[name].detail,
        )


def test_where_damage_does_not_hurt_this_model_the_incumbent_is_damaged(session_of):
    incumbent = replace(role_model("incumbent"), model_sha256="i" * 64)

    def both(rows=ROWS):
        session = session_of(rows, model=Constant())
        return replace(session, roles={**session.roles, "incumbent": incumbent})

    for name in ("left-half-blanked", "swapped-logits", "turned-020"):
        assert re.search(
            "of the incumbent, the mutant fails .* notices", noticed(both(), name).detail
        )
    assert not noticed(both(ROWS.replace("0.85", "0.01")), "left-half-blanked").holds, (
        "a lax threshold is found"
    )

    def judge_the_incumbent(broken, check):
        return judge(
            replace(broken, roles={**broken.roles, "candidate": broken.roles["incumbent"]}), check
        )

    found = statuses(self_checks(both(), judge_the_incumbent))
    assert {found[name] for name in ("left-half-blanked", "checks-follow-the-candidate")} == {
        "fail"
    }


def test_a_model_that_damage_improves_is_not_hurt(session_of):
    """It predicts bees as cats and cats as bees, so swapping them is a cure."""
    swapped = network()
    with torch.no_grad():
        for values in (swapped.fc1.weight, swapped.fc1.bias):
            values.copy_(values[[0, 2, 1, 3]])
    assert noticed(session_of(model=swapped), "swapped-logits").detail.startswith(
        "no harm to this model"
    )


@pytest.mark.parametrize("name", ["ant", "dog"])
def test_the_classes_swapped_are_those_that_a_check_watches(session_of, name):
    assert noticed(session_of(ROWS.replace('"bee"', f'"{name}"')), "swapped-logits").holds


def test_a_check_of_a_class_that_the_data_lack_is_not_damaged(session_of):
    found = [
        damage.name
        for damage in damages(session_of(ROWS.replace('"bee"', '"yak"')).checks).values()
    ]
    assert [name for name in found if name not in ELSEWHERE] == list(NOTICED_BY)


# Models with large logits.


class HalfPrecision(Certain):
    """Gives logits of half precision; ten times such a logit is beyond its range."""

    def forward(self, pixels):
        logits = self.network(pixels)
        return (logits / logits.abs().max() * 6e4).half()


class Huge(Certain):
    """Gives logits near the largest number of float32; ten times such a logit is beyond it."""

    def forward(self, pixels):
        logits = self.network(pixels)
        return logits / logits.abs().max() * 3e38


@pytest.mark.parametrize("model", [HalfPrecision, Huge])
def test_mutants_of_large_logits_are_finite_and_predict_alike(session_of, model):
    session = session_of(model=model())
    candidate = session.roles["candidate"]
    mutant = damages(session.checks)["confidence"].apply(
        candidate, session.checks.checks, IMAGES.classes
    )
    predictions = mutant.predict(IMAGES)
    assert np.isfinite(predictions.logits).all()
    assert np.array_equal(predictions.predicted, candidate.predict(IMAGES).predicted)


class Cancelling(Certain):
    """Gives small logits as differences of large ones, with the last bits of these at random."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, pixels):
        logits = self.network(pixels)
        logits[:, 3] = 2.0**26
        return logits + self.noise * torch.randn_like(logits)


@pytest.mark.parametrize(
    ("noise", "itself"), [(8.0, "pass"), (2.0**14, "fail")], ids=["last-bits", "much"]
)
def test_the_tolerance_of_steadiness_follows_the_scale_of_the_logits(session_of, noise, itself):
    found = self_checks(session_of(model=Cancelling(noise)))
    assert found["model-equals-itself"].status == itself


# Models that do not answer the same twice, and answers that are not the model's.


class Wavering(Certain):
    """Adds noise to its answers, anew each time."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, pixels):
        logits = self.network(pixels)
        return logits + self.noise * torch.randn_like(logits)


@pytest.mark.parametrize(
    ("noise", "itself"), [(3.0, "fail"), (1e-4, "pass")], ids=["much", "last-bits"]
)
def test_a_model_that_wavers_is_found_by_the_equalities(session_of, noise, itself):
    found = self_checks(session_of(model=Wavering(noise)))
    assert (found["identity-equals-clean"].status, found["model-equals-itself"].status) == (
        "fail",
        itself,
    )
    assert "not deterministic" in found["identity-equals-clean"].detail
    assert itself == "pass" or re.match(
        r"c\.safetensors: asked as it was given, [1-9]\d* of 32 images get other logits, .*or "
        r"answers at random",
        found["model-equals-itself"].detail,
    )


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
            np.eye(1, shape[1], dtype=np.float32).repeat(shape[0], axis=0)
            if self.stale
            else super().load(key, shape)
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
    found = self_checks(stale_in(Pose(10)))
    assert statuses(found) == {**ALL_PASS, "answers-are-the-models": "fail"}
    said = re.match(
        r"(\d+) of 64 predictions of this run are others when predicted anew, as under "
        rf"{re.escape(str(Pose(10)))}: it keeps state, or the cache is of another\. Empty it with "
        r"`stress-harness cache --clear`",
        found["answers-are-the-models"].detail,
    )
    assert 16 <= int(said[1]) <= 32, "what the model takes for other classes, and no image at rest"


def test_some_of_many_perturbations_are_asked_again_and_one_is_named(stale_in, session_of):
    candidate = stale_in(*(Pose(degrees) for degrees in range(1, 40))).roles["candidate"]
    text = steadiness.other_answers(candidate, most=16, few=32)
    assert re.match(r"[1-9]\d* of 448 predictions of this run are others", text), (
        "of 14 perturbations, 32 images each"
    )
    candidate = session_of().roles["candidate"]
    candidate.predict(IMAGES, NoiseOfABatch())
    said = (
        r"under NoiseOfABatch\(\):.* Your own perturbations must change an image alike in any batch"
    )
    assert re.search(said, steadiness.other_answers(candidate))


# A check that fails makes the run fail.


def test_an_unsound_run_is_an_error_in_every_report(session_of):
    outcome = outcome_with(EMPTY, verdicts=(PASS,))
    sound = outcome_with(outcome, self_checks=tuple(self_checks(session_of()).values()))
    assert (sound.verdict, sound.exit_status) == ("pass", 0)
    assert ALL_HOLD in summary_lines(sound, Path("reports"))
    unsound = outcome_with(
        outcome, self_checks=tuple(self_checks(session_of(ROWS.replace("0.85", "0.01"))).values())
    )
    assert (unsound.verdict, unsound.exit_status) == ("error", 4)
    (failed,) = (check for check in unsound.findings.self_checks if check.status == "fail")
    line = f"[SELF_CHECK] self-check {failed.name}: {failed.detail}"
    assert f"  inconclusive: {line}" in summary_lines(unsound, Path("reports"))
    assert f"{len(NAMES) - 1} of {len(NAMES)} self-checks pass" in summary_lines(
        unsound, Path("reports")
    )
    assert f"**inconclusive**: {line}" in markdown(unsound)
    assert 'self-check">left-half-blanked</td><td data-title="result">✗ fails</td>' in page_of(
        unsound
    )
    (told,) = (
        check
        for check in json.loads(json.dumps(stress_json(unsound)))["self_checks"]
        if check["status"] == "fail"
    )
    assert (told["name"], told["detail"], told["cannot_notice"]) == (
        "left-half-blanked",
        failed.detail,
        False,
    )


def failed_self_check(
    name="left-half-blanked", detail="all 1 checks of family 'clean' let it pass", check=""
):
    return module.SelfCheck(name, "fail", detail, check)


@pytest.mark.parametrize(
    ("check", "ending"),
    [
        (failed_self_check(), ("fail", 1)),
        (failed_self_check("self-checks", "they could not run: lost"), ("fail", 1)),
        (failed_self_check("checks-follow-the-candidate", "measures 1.0", "good"), ("fail", 1)),
        (failed_self_check("checks-follow-the-candidate", "measures 0.8", "bad"), ("error", 4)),
        (failed_self_check("model-equals-itself", "other logits"), ("error", 4)),
    ],
    ids=["mutant", "could-not-run", "of-another-check", "of-the-check-that-fails", "unsteady"],
)
def test_a_failing_check_outranks_a_self_check_that_does_not_doubt_it(check, ending):
    outcome = outcome_with(EMPTY, verdicts=(PASS, FAIL), self_checks=(check,))
    assert (outcome.verdict, outcome.exit_status) == ending
    kind = {"fail": "note", "error": "inconclusive"}[outcome.verdict]
    line = f"[SELF_CHECK] self-check {check.name}: {check.detail}"
    assert f"  {kind}: {line}" in summary_lines(outcome, Path("reports"))
    alone = outcome_with(EMPTY, verdicts=(PASS,), self_checks=(check,))
    assert (alone.verdict, alone.exit_status) == ("error", 4)


# Through pytest.


def shown(ran):
    return {name: status for name, status in ran.self_checks.items() if name not in ELSEWHERE}


def test_a_partial_run_checks_the_tests_that_it_leaves_out_once(shared):
    ran = shared.once("-k", "rotation")
    assert ran.ending == (0, "partial")
    assert shown(ran) == ALL_PASS
    assert len(ran.report["self_checks"]) == len(NAMES + ELSEWHERE)
    ran.stdout.fnmatch_lines([ALL_HOLD])


CONSTANT = (
    rb"stress_check\.judge\(.*\)",
    b"stress_check.judge(Measurement(METRICS['accuracy'], 0.95, 400, (0.9, 1)))",
)
CANNOT_FAIL = {
    "clean": ("left-half-blanked", (b"candidate", b"baseline")),
    "confident_errors": ("overconfident", (rb"above=stress_check\[CONFIDENCE\]", b"above=1.0")),
    "rotation": ("turned-020", CONSTANT),
}


@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.processes)], ids=["serial", "n2"]
)
def test_stress_tests_that_always_pass_end_with_4(shared, workers):
    def change(pair):
        head = b"from harness.measures import METRICS, Measurement  # noqa: F401\n"
        return lambda text: head + re.sub(*pair, text)

    shared.save("baseline.safetensors", seed=1, jitter=0.1)
    files = {
        f"stress_tests/test_{name}.py": change(pair) for name, (_, pair) in CANNOT_FAIL.items()
    }
    ran = shared.once("--baseline", "baseline.safetensors", *workers, files=files)
    assert ran.ending == (4, "error")
    assert {ran.self_checks[check] for check, _ in CANNOT_FAIL.values()} == {"fail"}
    assert len(ran.report["self_checks"]) == len(NAMES + ELSEWHERE), (
        "once, though there may be workers"
    )
    failed = list(ran.self_checks.values()).count("fail")
    assert ran.report["error_codes"].count("SELF_CHECK") == failed
    assert len({*ran.report["errors"]}) == len(ran.report["errors"])
    for check in ("overconfident", "turned-020"):
        ran.stdout.fnmatch_lines([f"*self-check {check}: *let it pass, such as *correct the test*"])


def test_a_bad_candidate_fails_though_a_stress_test_cannot(shared):
    bad = shared.save("bad.safetensors", jitter=3.0).name
    head = b"from harness.measures import METRICS, Measurement  # noqa: F401\n"
    files = {"stress_tests/test_rotation.py": lambda text: head + re.sub(*CONSTANT, text)}
    ran = shared.once("--candidate", bad, files=files)
    assert ran.self_checks["turned-020"] == "fail"
    assert ran.ending == (1, "fail")
    assert ran.report["errors"] == []
    ran.stdout.fnmatch_lines(["*note: *self-check turned-020: *"])


@pytest.mark.parametrize(
    ("line", "ending", "check"),
    [
        ("pytest.skip('not for this model')", (0, "pass"), ("turned-020", "not_applicable")),
        ("raise RuntimeError('lost')", (4, "error"), ("self-checks", "fail")),
        ("pytest.fail('no')", (0, "pass"), ("turned-020", "not_applicable")),
    ],
    ids=["skip", "raise", "fail"],
)
def test_a_stress_test_that_ends_otherwise_on_mutants_has_a_verdict(shared, line, ending, check):
    """Whatever a test of the user's does in a self-check, the run ends with a report."""
    condition = "candidate.classifier.predict(images).correct.mean() < 0.6"

    def ends(text):
        return re.sub(
            r"( +)(verdict = )",
            rf"\1if {condition}:\n\1\1{line}\n\1\2",
            f"import pytest\n{text.decode()}",
        ).encode()

    try:
        ran = shared.once(files={"stress_tests/test_rotation.py": ends})
    except BaseException as error:  # A skip would skip this test here.
        raise AssertionError(f"the run ended with {error!r}") from error
    assert ran.ending == ending
    assert check in ran.self_checks.items()
    ran.stdout.fnmatch_lines(["report: *stress.html"])


# Recording.


def assert_nothing_was_judged(ran):
    """A recording never looks like a verdict, and nothing went wrong in it."""
    assert ran.ending == (4, "error")
    assert ran.report["errors"] == ran.report["self_checks"] == []
    assert {(check["status"], check["threshold"]) for check in ran.checks.values()} <= {
        ("informational", None)
    }
    ran.stdout.fnmatch_lines(["  partial: no threshold of *checks.toml judged the candidate"])


def test_recording_all_measures_what_a_run_does_and_judges_nothing(shared):
    bad = shared.save("bad.safetensors", jitter=3.0).name
    judged, recorded = (
        shared.once("--candidate", bad, record=record, page=True) for record in (None, "all")
    )
    assert judged.ending == (1, "fail")
    assert_nothing_was_judged(recorded)
    for name in ("id", "value", "n", "interval", "metric", "unit", "direction"):
        assert [check[name] for check in recorded.report["checks"]] == [
            check[name] for check in judged.report["checks"]
        ]


@pytest.mark.parametrize(
    ("families", "ids"),
    [("rotation,clean", ["clean", "rotate-ccw-010"]), ("none-such", [])],
    ids=["two", "unknown"],
)
def test_recording_families_measures_these_alone(shared, families, ids):
    ran = shared.once(record=families)
    assert_nothing_was_judged(ran)
    assert list(ran.checks) == ids


def test_recording_still_refuses_a_baseline_that_is_not_what_it_should_be(shared):
    row = ROWS.split("[[check]]")[1].replace('"clean"', '"baseline"') + 'role = "baseline"\n'
    test = (STRESS_TESTS / "test_baseline.py").read_text()
    shared.save("blind.safetensors", blind=True)
    ran = shared.once(
        *("--baseline", "blind.safetensors"),
        record="all",
        rows=f"{ROWS}[[check]]{row}",
        files={"stress_tests/test_baseline.py": test},
    )
    assert ran.ending == (4, "error")
    ran.stdout.fnmatch_lines(
        ["*baseline: accuracy 0.2500 < threshold 0.8500*the baseline fails its own check*"]
    )
