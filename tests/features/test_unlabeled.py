"""Images without labels.

The candidate is compared with unanimous reference models, by thresholds on these images.
"""

import json

import numpy as np
import pytest
from PIL import Image
from zoo import CLEAN, drawn_again, images_of, network, without_lines

from harness.base.errors import NotApplicableError
from harness.base.files import hash_of_file
from harness.calibration.panel import Panel, ReferenceModel
from harness.features.unlabeled.measures import (
    against,
    churn,
    most_of_a_part,
    thresholds_on,
    unanimous,
    unanimous_disagreements,
)
from harness.inference import Classifier

TESTS, SEEDS, COUNT = ("clean",), range(1, 10), 1_000
BOUND = f'[recipe]\npanel = "panel.json"\n{CLEAN}'
FIELD = ("--stress-unlabeled", "folder:field", "--incumbent", "old.safetensors", "--candidate")
ROWS = [
    f"unlabeled-{what}{part}"
    for what in ("unanimous", "churn")
    for part in ("", "-class", "-group")
]


@pytest.fixture(scope="module")
def gate(shared):
    """Return the repository with nine reference models, and unlabeled pictures of two cameras."""
    shared.save("old.safetensors", jitter=0.02, seed=20)
    shared.save("near.safetensors", jitter=0.04, seed=22)
    shared.save("blind.safetensors", blind=True)
    models = []
    for seed in SEEDS:
        path = shared.save(f"seed-{seed}.safetensors", jitter=0.005, seed=seed)
        models.append(ReferenceModel(path.name, str(hash_of_file(path)), seed, {}))
    (shared.root / "panel.json").write_bytes(
        Panel(shared.images.sha256, 1, {}, (), tuple(models)).as_bytes()
    )
    folder, field = shared.root / "field", images_of(COUNT, seed=7)
    folder.mkdir()
    for at, pixels in enumerate(field.pixels[:, 0].numpy()):
        Image.fromarray(pixels).save(folder / f"{at:03}.png")
    cameras = "".join(f"{at:03}.png,{'rear' if at % 3 else 'front'}\n" for at in range(COUNT))
    (folder / "groups.csv").write_text(f"path,camera\n{cameras}")
    pixels = field.pixels[:, 0].numpy()
    np.savez(shared.root / "field.npz", images=pixels, labels=np.roll(field.labels.numpy(), 1))
    return shared


def votes_of(*seeds: int, jitter: float = 0.005) -> np.ndarray:
    nets = [Classifier(network(jitter=jitter, seed=seed), workers=1) for seed in seeds]
    return np.stack([each.predict(images_of(COUNT, seed=7)).predicted for each in nets])


# Counts and thresholds.


def test_models_agree_on_a_class_or_on_none():
    votes = np.array([[0, 1, 2, 3], [0, 1, 1, 3], [0, 1, 2, 0]])
    assert unanimous(votes).tolist() == [0, 1, -1, -1]
    assert against(np.array([0, 2, 0, 0]), unanimous(votes)).tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("part", "count", "where"),
    [(None, 4, None), ("class", 2, 1), ("group", 3, ("site", "b")), ("class", 0, None)],
)
def test_the_worst_part_has_most_disagreements(part, count, where):
    differ = np.array([1, 1, 0, 1, 1, 0]) > (1 if count == 0 else 0)
    columns = {"camera": np.array([*"xyxyxy"]), "site": np.array([*"abbbba"])}
    found = most_of_a_part(differ, np.array([1, 1, 1, 2, 0, 2]), columns, part)
    assert (found[0], found[1], int(found[2].sum())) == (count, where, count)


@pytest.mark.parametrize("models", [3, 7, 8, 20])
def test_thresholds_come_from_each_model_against_the_others(models):
    rng = np.random.default_rng(models)
    hard = rng.random(2_000) ** 6 / 2
    votes = np.where(rng.random((models, 2_000)) < hard, rng.integers(1, 4, (models, 2_000)), 0)
    found = thresholds_on(votes, {"half": np.repeat(["a", "b"], 1_000)})
    assert [*found] == ROWS
    own = []
    for at in range(models):
        others = [votes[each] for each in range(models) if each != at]
        agreed = np.all([each == others[0] for each in others], axis=0)
        own.append((agreed & (votes[at] != others[0])).sum())
    correction = (models - 1) / models if models < 8 else 1
    assert found["unlabeled-unanimous"].mean == pytest.approx(np.mean(own) * correction)
    pairs = [(votes[at] != votes[(at + 1) % models]).sum() for at in range(models)]
    assert found["unlabeled-churn"].mean == pytest.approx(np.mean(pairs))
    assert models < 8 or not any(item.informational for item in found.values())
    assert all(item.threshold > item.mean for item in found.values())


def test_one_more_model_seldom_fails():
    rng, alarms = np.random.default_rng(0), 0
    hard = rng.random(1_000) ** 6 / 2
    for _ in range(40):
        votes = np.where(rng.random((21, 1_000)) < hard, rng.integers(1, 4, (21, 1_000)), 0)
        known = thresholds_on(votes[1:], {}, ("unlabeled-unanimous",))["unlabeled-unanimous"]
        alarms += not known.holds(against(votes[0], unanimous(votes[1:])).sum())
    assert alarms == 0, "each has a probability of at most 0.04%"


# In a gate.


def test_a_healthy_candidate_passes_and_the_report_shows_the_worst_first(gate):
    ran = gate.once(*FIELD, "near.safetensors", page=True)
    assert ran.ending == (0, "pass")
    assert {ran.statuses[name] for name in ROWS} == {"pass"}
    votes, (old, mine) = (
        votes_of(*SEEDS),
        np.concatenate([votes_of(20, jitter=0.02), votes_of(22, jitter=0.04)]),
    )
    expected = {
        "unlabeled-unanimous": against(mine, unanimous(votes)).sum(),
        "unlabeled-churn": (mine != old).sum(),
    }
    assert {name: ran.checks[name]["value"] for name in expected} == expected
    assert {ran.checks[name]["provenance"] for name in ROWS} == {"panel"}
    assert {ran.checks[name]["check"]["panel"]["reference_models"] for name in ROWS} == {len(SEEDS)}
    assert ran.self_checks["unlabeled-moved"] == "pass"
    with without_lines():
        assert drawn_again(gate.root / "reports") == []
    shown = ran.report["unlabeled"]
    shares = [float(face["about"].partition("%")[0]) for face in shown["faces"]]
    assert shares == sorted(shares, reverse=True)
    assert [face["about"].endswith(".png") for face in shown["faces"]] == [True] * expected[
        "unlabeled-unanimous"
    ]
    assert {of for _, of, *_ in shown["groups"]} == {"predicted class", "group by camera"}
    assert (
        sum(row[2] for row in shown["groups"] if row[1] == "group by camera")
        == expected["unlabeled-unanimous"]
    )
    assert len(shown["facts"]) == 3
    assert ran.report["thumbnails"]
    assert ran.report["thumbnails"].keys().isdisjoint(ROWS), "no image is that of a row"
    for said in (ran.page, ran.summary, ran.said):
        assert shown["sentence"] in said
    assert "a shift that misleads all reference models alike" in ran.page


def test_a_blind_candidate_fails(gate):
    ran = gate.once(*FIELD, "blind.safetensors")
    assert ran.ret == 1
    assert {ran.statuses[name] for name in ROWS} == {"fail"}
    assert "of group" not in ran.checks["unlabeled-unanimous-class"]["detail"]
    assert "of camera rear" in ran.checks["unlabeled-unanimous-group"]["detail"]


def test_labels_do_not_count_and_a_sample_of_others_leaves_them_whole(gate):
    whole = gate.once(*FIELD, "near.safetensors", page=True)
    ran = gate.once(
        "--stress-unlabeled=npz:field.npz", "--stress-samples=100", *FIELD[2:], "near.safetensors"
    )
    assert ran.verdict == "partial"
    for name in ("unlabeled-unanimous", "unlabeled-churn-class"):
        assert [ran.checks[name][key] for key in ("value", "n", "status")] == [
            whole.checks[name][key] for key in ("value", "n", "status")
        ]
    assert ran.statuses["unlabeled-churn-group"] == "not_applicable"
    assert "groups.csv" in ran.checks["unlabeled-churn-group"]["detail"]


@pytest.mark.processes
def test_workers_find_the_same(gate):
    serial, ran = (
        gate.once(*FIELD, "near.safetensors", page=True),
        gate.once(*FIELD, "near.safetensors", "-n", "2"),
    )
    assert [ran.checks[name] for name in ROWS] == [serial.checks[name] for name in ROWS]
    assert ran.report["unlabeled"] == serial.report["unlabeled"]


@pytest.mark.parametrize("name", ["seed-3.safetensors", "accepted.safetensors"])
def test_a_reference_model_is_no_reference_of_its_own_in_any_file(gate, name):
    gate.save("accepted.safetensors", jitter=0.005, seed=3, training={"seed": 3})
    ran = gate.once(*FIELD, name)
    assert ran.checks["unlabeled-unanimous"]["check"]["panel"]["reference_models"] == len(SEEDS) - 1
    others = [seed for seed in SEEDS if seed != 3]
    votes, (mine,) = votes_of(*others), votes_of(3)
    assert ran.checks["unlabeled-unanimous"]["value"] == against(mine, unanimous(votes)).sum()


def test_reference_models_are_asked_once_for_a_set_of_images(gate):
    gate.once(*FIELD, "near.safetensors", page=True)
    without = {"seed-4.safetensors": None}
    assert gate.once(*FIELD, "near.safetensors", files=without).ret == 0
    ran = gate.once(*FIELD, "near.safetensors", "--stress-no-cache", files=without)
    assert ran.ending == (4, "error")
    assert "unlabeled folder:field" in ran.why
    assert (
        "seed-4.safetensors: the weights of this reference model are missing; images without labels"
        in ran.why
    )


def panel_of_two(content: bytes) -> bytes:
    plain = json.loads(content)
    return json.dumps({**plain, "models": plain["models"][:2]}).encode()


@pytest.mark.parametrize(
    ("spec", "rows", "files", "said"),
    [
        (
            "folder:field",
            CLEAN,
            {},
            "the checks file names no panel; images without labels are judged by",
        ),
        ("folder:nowhere", None, {}, "unlabeled folder:nowhere: nowhere: no pictures in it"),
        ("field", None, {}, "unlabeled field: unknown data"),
        ("npz:field.npz", None, {"seed-2.safetensors": b"other"}, "seed-2.safetensors"),
        (
            "npz:field.npz",
            None,
            {"panel.json": panel_of_two},
            "there are 2 other reference models, expected at least 3",
        ),
    ],
)
def test_what_cannot_be_compared_is_inconclusive(gate, spec, rows, files, said):
    arguments = f"--stress-unlabeled={spec}", "--stress-no-cache", "--candidate", "near.safetensors"
    ran = gate.once(*arguments, rows=rows, files=files)
    assert ran.ending == (4, "error")
    assert said in ran.why


def test_without_a_unanimous_image_the_run_is_inconclusive(gate, monkeypatch):
    monkeypatch.setattr(
        "harness.features.unlabeled.opening.unanimous", lambda votes: np.full(votes.shape[1], -1)
    )
    ran = gate.once(*FIELD, "near.safetensors", files={"note": "none"})
    assert ran.ending == (4, "error")
    assert "the 9 reference models agree on none of 1000 images" in ran.why


def test_without_the_setting_there_are_no_such_checks(gate):
    ran = gate.once("--candidate", "near.safetensors")
    assert not [name for name in ran.statuses if "unlabeled" in name]
    assert ran.report["unlabeled"] is None
    own = '[[check]]\nid = "own"\nfamily = "unlabeled"\nmetric = "churn"\n'
    ran = gate.once("--candidate", "near.safetensors", rows=f"{BOUND}\n{own}")
    assert ran.ending == (0, "pass")
    assert ran.statuses["own"] == "not_applicable"


def test_groups_are_needed_for_the_worst_group():
    predictions = Classifier(network(), workers=1).predict(images_of(8))
    with pytest.raises(NotApplicableError, match="no groups"):
        unanimous_disagreements(predictions, part="group")
    assert churn(predictions, predictions).value == 0
