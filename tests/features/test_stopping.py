"""A run with stop ends at the first certain failure.

That changes no status, and such a run is no whole one.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inference_servers import dropped, inference_server
from panels import view_of
from zoo import (
    CLASSES,
    ROWS,
    checks_text,
    drawn_again,
    images_of,
    network,
    role_model,
    without_id,
    without_lines,
)

from harness.base.errors import InputError
from harness.checks import Check, ChecksError, Threshold, read_checks
from harness.checks.conditions import Conditions
from harness.features.served_models import exchange
from harness.features.stopping.certain import (
    LEAST,
    certain_failure,
    hardest_first,
    images_until_failure,
)
from harness.measures.accuracy import ACCURACY
from harness.measures.metric import share_of
from harness.measures.panel.predictions import PanelPredictions
from harness.perturb import IDENTITY, Pose
from harness.run.history import History, attempt_of
from harness.run.request import RunRequest
from harness.run.session import StressSession

TURNED = Pose(10)
STRICT = ROWS.replace("threshold = 0.85", "threshold = 0.99, n = 400")
"""A good network has 32 errors on 400 images, which is too many."""
BASELINE = """
[[check]]
id = "baseline-clean"
family = "baseline"
role = "baseline"
metric = "accuracy"
hand = {{ threshold = {} }}
"""
FEW = ("--baseline", "none", "--incumbent", "none")
STOP = (*FEW, "--stress-stop")


def row(threshold: float, *, stopped: int = 0) -> Check:
    conditions = Conditions(stopped=stopped)
    return Check("clean", "clean", "accuracy", hand=Threshold(threshold), conditions=conditions)


@given(
    correct=st.lists(st.booleans(), min_size=1, max_size=300).map(np.array),
    threshold=st.one_of(
        st.floats(0.001, 1),
        st.builds(lambda a, b: min(a, b) / max(a, b), *[st.integers(1, 300)] * 2),
    ),
    data=st.data(),
)
def test_stopping_changes_no_status(correct, threshold, data):
    images = len(correct)
    order = np.array(data.draw(st.permutations(range(images))))
    asked = images_until_failure(lambda part: correct[order[part]], images, least=threshold)
    whole = row(threshold).judge(share_of(ACCURACY, correct))
    if asked is None:
        return
    stopped = row(threshold, stopped=images).judge(share_of(ACCURACY, correct[order[:asked]]))
    assert (stopped.status, whole.status) == ("fail", "fail")
    assert whole.value <= stopped.value < threshold
    assert (stopped.n, stopped.stopped, stopped.interval) == (asked, images, None)
    others = data.draw(
        st.lists(st.booleans(), min_size=images - asked, max_size=images - asked).map(np.array)
    )
    outcome = np.concatenate([correct[order[:asked]], others.astype(bool)])
    assert row(threshold).judge(share_of(ACCURACY, outcome)).status == "fail"


@given(
    correct=st.lists(st.booleans(), min_size=1, max_size=50).map(np.array), more=st.integers(0, 50)
)
def test_a_check_that_has_stopped_never_passes(correct, more):
    """A model that answers differently when its test runs is an error.

    The other answers may be correct.
    """
    images, stopped = len(correct) + more, share_of(ACCURACY, correct)
    best = row(0.8).judge(share_of(ACCURACY, np.concatenate([correct, np.ones(more, dtype=bool)])))
    if best.status == "fail":
        assert row(0.8, stopped=images).judge(stopped).status == "fail"
    else:
        with pytest.raises(ChecksError, match="do not show a certain failure"):
            row(0.8, stopped=images).judge(stopped)


@pytest.mark.parametrize(
    ("wrong", "least", "expected"),
    [
        (np.ones(1_000), 0.9, [101]),  # As few as can decide.
        (np.arange(1_000) % 2, 0.9, [101, 51, 32, 32]),
        (
            np.arange(1_000) < 99,
            0.9,
            [101, 32, 32, 32, 32],
        ),  # One error too few, among the hardest.
        (np.zeros(1_000), 0.9, [101]),
        (np.ones(20), 0.5, [20]),
    ],
)
def test_as_few_images_are_asked_for_as_can_decide(wrong, least, expected):
    asked = []

    def correct(part):
        asked.append(part.stop - part.start)
        return wrong[part] == 0

    found = images_until_failure(correct, len(wrong), least=least)
    assert asked == expected
    fails = wrong[: sum(asked)].sum() > len(wrong) * (1 - least)
    assert found == (sum(asked) if fails else None)
    assert asked[-1] >= min(LEAST, len(wrong))


@pytest.fixture
def session_of(tmp_path):
    def build(rows=STRICT, *, images=400, **more):
        shown, path = images_of(images), tmp_path / "checks.toml"
        path.write_text(checks_text(shown, rows))
        return StressSession(
            shown,
            read_checks(path),
            {"candidate": role_model(), "baseline": role_model("baseline")},
            **more,
        )

    return build


def test_the_hardest_images_are_asked_first(session_of):
    votes = {IDENTITY: np.arange(400) % 5, TURNED: np.arange(400) % 7}
    views = {
        repr(pose): view_of(wrong, np.ones((400, 1)), np.zeros(400, dtype=int))
        for pose, wrong in votes.items()
    }
    models = tuple("abcdefgh")
    by_panel = session_of(
        panel_predictions=PanelPredictions(images_of().sha256, CLASSES, models, views)
    )
    for pose, wrong in {**votes, Pose(5): votes[IDENTITY]}.items():
        assert hardest_first(by_panel, pose).tolist() == sorted(
            range(400), key=lambda at: -wrong[at]
        )
    alone = session_of()
    incumbent = role_model("incumbent", network(jitter=1.0))
    with_incumbent = replace(alone, roles={**alone.roles, "incumbent": incumbent})
    predictions = incumbent.predict(alone.images)
    sure = predictions.probabilities[np.arange(400), predictions.labels]
    assert (np.diff(sure[hardest_first(with_incumbent, IDENTITY)]) >= 0).all()
    assert sorted(hardest_first(alone, IDENTITY)) == list(range(400))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (STRICT, "clean"),
        (STRICT.replace("n = 400", "n = 300"), None),  # Made for other images.
        (STRICT.replace(", n = 400", ""), None),  # Its test may take some of the images.
        (STRICT + BASELINE.format(0.9), "clean"),
        (STRICT + BASELINE.format(0.95), None),  # A whole run is inconclusive.
        (
            STRICT.replace(
                'metric = "accuracy"\nhand', 'metric = "accuracy"\nclass = "bee"\nhand', 1
            ),
            None,
        ),
        (STRICT.replace('family = "clean"', 'family = "mine"'), None),
        (STRICT.replace('"clean"\nmetric', '"clean"\nrole = "baseline"\nmetric'), None),
        (ROWS.replace("threshold = 0.5 ", "threshold = 0.98, n = 400 "), "rotate-ccw-010"),
        (ROWS, None),
    ],
)
def test_checks_of_accuracy_on_all_images_can_stop(session_of, rows, expected):
    session = session_of(rows)
    found = certain_failure(session, RunRequest(stop=True))
    assert (found and found[0]) == expected
    assert certain_failure(session, RunRequest()) is None
    if found is not None:
        stopped = session.stopped_at(*found)
        check = session.checks.family("clean" if expected == "clean" else "rotation")[0]
        predictions = stopped.roles["candidate"].predict(stopped.images, check.pose)
        verdict = stopped.scaled(check).judge(share_of(ACCURACY, predictions.correct))
        assert (verdict.status, verdict.stopped) == ("fail", 400)
        with pytest.raises(ChecksError, match=f"has stopped at {expected}, and judges no other"):
            stopped.scaled(session.checks.family("confidence")[0])


def test_a_candidate_with_another_order_of_classes_is_not_stopped(session_of):
    other = network()
    with torch.no_grad():
        for values in (other.fc1.weight, other.fc1.bias):
            values.copy_(values[[1, 0, 2, 3]])
    session = session_of()
    swapped = replace(session, roles={"candidate": role_model(model=other)})
    assert certain_failure(swapped, RunRequest(stop=True)) is None


def test_samples_cannot_stop(session_of):
    with pytest.raises(InputError, match="leave out samples and budget"):
        certain_failure(session_of(), RunRequest(stop=True, budget="1m"))


# Runs.


def test_a_run_stops_at_the_certain_failure_that_a_whole_run_has(shared):
    """Partial and whole predictions do not mix.

    Runs with the cache, in either order, are those without it.
    """
    stopped = shared.once(*STOP, rows=STRICT, page=True)
    whole, anew = (shared.once(*FEW, *more, rows=STRICT) for more in ((), ("--stress-no-cache",)))
    assert (stopped.ending, whole.ending) == ((1, "fail"), (1, "fail"))
    assert whole.checks == anew.checks
    assert whole.statuses["clean"] == "fail"
    assert stopped.statuses == {"clean": "fail"}
    check = stopped.checks["clean"]
    assert check["stopped"] == 400
    assert check["interval"] is None
    assert check["n"] < 400
    assert check["value"] >= whole.checks["clean"]["value"]
    assert (
        f"at least {round(400 * (1 - check['value']))} errors, after {check['n']} of 400"
        in check["explanation"]
    )
    after = f"after {check['n']} of 400 images; other checks are not measured (3)"
    said = f"stopped at clean, which fails for certain, {after}"
    assert stopped.report["stopped"] == said
    assert said in stopped.page
    assert said in stopped.summary
    assert "Clean accuracy" not in stopped.summary
    assert "Likely cause" not in stopped.summary
    assert set(stopped.self_checks.values()) == {"pass"}
    with without_lines():
        assert drawn_again(shared.root / "reports") == []
    repeated = shared.once(*STOP, "--stress-no-cache", rows=STRICT, page=True)
    assert without_id(repeated.report) == without_id(stopped.report)


def test_a_test_of_other_images_is_an_error(shared):
    twice = b"candidate.predict(images.take(images.positions.argsort().repeat(2)))"
    files = {
        "stress_tests/test_clean.py": lambda text: text.replace(
            b"candidate.predict(images)", twice, 1
        )
    }
    ran = shared.once(*STOP, rows=STRICT, files=files)
    assert ran.ending == (4, "error")
    assert "the run has stopped for" in ran.why


@pytest.mark.processes
def test_workers_stop_at_the_same_image(shared):
    alone, workers = (
        shared.once(*STOP, *more, rows=STRICT, page=True) for more in ((), ("-n", "2"))
    )
    assert workers.ending == (1, "fail")
    assert without_id(workers.report) == without_id(alone.report)


def test_a_run_without_a_certain_failure_is_whole(shared):
    with_stop, without = shared.once(*STOP), shared.once(*FEW)
    assert with_stop.ending == (0, "pass")
    assert without_id(with_stop.report) == without_id(without.report)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--stress-samples", "100"), "leave out samples and budget"),
        (
            ("-k", "rotate"),
            "1 of 1 checks did not run: clean",
        ),  # It is judged only with the check that fails.
    ],
)
def test_what_leaves_out_checks_or_images_never_passes(shared, more, said):
    ran = shared.once(*STOP, *more, rows=STRICT)
    assert ran.ending == (4, "error")
    assert said in ran.why


def test_a_run_that_stopped_is_an_attempt_without_values(shared):
    line = shared.once(*STOP, rows=STRICT, page=True).history[-1]
    assert (line.verdict, line.stopped, line.failing) == ("fail", True, ("clean",))
    assert (line.clean, line.margins) == (None, {})
    whole = replace(line, stopped=False, candidate="w" * 64)
    assert History((whole, line)).series == {line.series: (whole,)}
    assert attempt_of(line, [whole]) == 2


@pytest.fixture
def server():
    """A server of the good network."""

    def logits(images):
        with torch.inference_mode():
            return good(torch.from_numpy(images.copy())).numpy()

    good = network()
    with inference_server(logits, shape=(-1, 1, 16, 16), classes=4) as served:
        yield served


def test_a_served_model_that_passes_costs_no_more_requests(zoo, server):
    asked = []
    for number, more in enumerate([(), ("--stress-stop",)], start=1):
        server.version = str(number)  # Predictions of another version are asked anew.
        server.images.clear()
        assert zoo.once("--candidate", server.url, *FEW, *more).ending == (0, "pass")
        asked.append(set(server.images))
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("after", "stopped"), [(28, False), (30, True)], ids=["before the tests", "in the test"]
)
def test_a_server_that_goes_away_ends_with_4(zoo, server, monkeypatch, after, stopped):
    monkeypatch.setattr(exchange, "_FIRST_WAIT", 0.005)
    server.fault = lambda number, handler: number > after and dropped(handler)
    ran = zoo.once("--candidate", server.url, *STOP, "--stress-no-cache", rows=STRICT)
    assert ran.ending == (4, "error")
    assert "gave no answer" in ran.why
    assert ("clean fails for certain" in ran.said) == stopped
