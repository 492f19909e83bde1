"""The command `skew`: the cause of served predictions, and refused files.

Noise and another model have no cause.
"""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from inference_servers import inference_server
from PIL import Image
from scipy.stats import binom
from zoo import CLASSES, Zoo, images_of, network, role_model

from harness.checks.tolerance import ToleranceTest
from harness.cli import main
from harness.data import LabelledImages, load_images
from harness.data.stages import Resize
from harness.features.skew.diagnosis import SkewDiagnosis, diagnosis
from harness.features.skew.explanation import Explanation, explanation, is_unrelated
from harness.features.skew.report import diagnosis_json, diagnosis_lines
from harness.features.skew.resizing import stretched
from harness.features.skew.trials import AFFINE, MANY, WHOLE, Trial, Trials
from harness.features.skew.variations import variations
from harness.inference import Classifier
from harness.inference.predictors.network import PredictorModel
from harness.inference.predictors.protocol import Identity, Provides
from harness.inference.predictors.recorded import UNDECIDED, answers_to_some
from harness.inference.serving import model_serving, served_predictions
from harness.measures.changed_predictions import PREDICTIONS_CHANGED
from harness.measures.equivalence import proportion
from harness.measures.metric import Measurement

MODEL = "models/augmented.safetensors"
BILINEAR = Image.Resampling.BILINEAR


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Search on 30 changed and 30 unchanged images, in small rounds."""
    monkeypatch.setattr("harness.features.skew.trials._LOOKED_AT", 30)
    monkeypatch.setattr("harness.features.skew.trials._ROUNDS", (12, 32))
    monkeypatch.setattr("harness.features.skew.diagnosis._FINALISTS", 4)


@pytest.fixture
def short(monkeypatch):
    """Search less far, where no pipeline explains the answers."""
    monkeypatch.setattr("harness.features.skew.trials._STEPS", 4)
    for name in ("_STARTS", "_PAIRED"):
        monkeypatch.setattr(f"harness.features.skew.diagnosis.{name}", 1)


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Zoo(tmp_path)


@pytest.fixture(scope="module")
def model():
    return role_model()


@pytest.fixture(scope="module")
def serving(model):
    return model_serving(model, images_of(400))


@pytest.fixture(scope="module")
def known(model, serving):
    """The classes that the reference pipeline gives."""
    return model.predict(serving.images).predicted


@pytest.fixture
def skew(zoo, capsys):
    """Run the command on a file; returns its exit status and what it printed."""

    def run(text, *more, name="served.csv", data=zoo.data, tolerance="2%"):
        if text is not None:
            (zoo.root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        status = main(
            ["skew", MODEL, "--served", name, "--data", data, "--tolerance", tolerance, *more]
        )
        out, err = capsys.readouterr()
        return status, out[out.find("{") :] if "--json" in more and out else out + err

    return run


def rows(classes, names=None):
    names = range(len(classes)) if names is None else names
    return "image,label\n" + "".join(
        f"{name},{CLASSES[label]}\n" for name, label in zip(names, classes, strict=True)
    )


def served_by(model, serving, pipeline):
    return served_predictions(model, serving, pipeline).predicted


def moved(classes, count):
    """Return the classes with the first of them replaced by the next class."""
    changed = classes.copy()
    changed[:count] = (changed[:count] + 1) % 4
    return changed


# The command.


@pytest.mark.parametrize(
    ("tolerance", "status", "end"), [("2%", 0, "lost, net."), ("1%", 4, "more images would tell.")]
)
def test_a_model_that_is_served_as_judged(skew, known, tolerance, status, end):
    found, out = skew(rows(known), tolerance=tolerance)
    assert found == status
    assert ": 0 of 400 predictions (0.0%, " in out
    assert f"{end}\n" in out


def test_some_images_of_a_skew_in_any_order_are_enough(skew, model, serving):
    numbers = np.random.default_rng(1).permutation(400)[:300]
    classes = served_by(model, serving, serving.skewed("crop-right-1"))[numbers]
    status, out = skew(rows(classes, numbers), "--json")
    found = json.loads(out)
    assert (status, found["outcome"], found["named"], found["images"]) == (
        1,
        "different",
        True,
        300,
    )
    assert (found["causes"], found["best"]["skew"], found["best"]["explained_share"]) == (
        [["crop"]],
        "crop-right-1",
        1,
    )
    assert found["p_next"] < 0.01
    assert found["runner_up"]["stages"] != found["best"]["stages"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,label\n0,ant\n0,bee\n", "repeats 1 of its 2 images"),
        ("image,label\n400,ant\n", "1 images that the data do not have: 400"),
        ("image,label\n0,cow\n", "1 labels are no class"),
        ("label\nant\n", "expected image"),
        (f"image,label\n{'a' * 64},ant\n", "has names of exported images"),
        ("", "is empty"),
        ("0,ant\n0,bee\n", "has the columns 0, ant; expected image"),
        ("image,ant,bee,cat,dog\n0,0.5,0.2,,\n", "a column of a class has empty cells"),
        ("image,label\n1,ant\n400,ant\n", "do not have: 400; numbers of images begin at 0"),
        (
            "image,label\n0,ant\n".encode("utf-16"),
            "is no text in UTF-8 (invalid start byte at byte 0)",
        ),
        (None, "served.csv"),
    ],
)
def test_a_file_that_cannot_be_used_gives_4(skew, text, said):
    status, out = skew(text)
    assert status == 4
    assert said in out


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("image;label", "{};{}"),
        ("image\tlabel", "{}\t{}"),
        ("image, label", "{}, {}"),
        (",image,label,seconds", "9,{},{},0.5"),
        ("\ufeffimage,label", "{},{}\r"),
    ],
    ids=["semicolons", "tabs", "spaces", "more columns", "byte order mark"],
)
def test_a_table_is_read_as_tools_write_it(serving, known, tmp_path, head, row):
    path = tmp_path / "served.csv"
    path.write_text("\n".join([head, *map(row.format, range(400), known)]), encoding="utf-8")
    numbers, served, _ = answers_to_some(path, serving.images, outputs=None)
    assert np.array_equal(numbers, np.arange(400))
    assert np.array_equal(served, known)


def test_numbers_that_begin_at_1_are_refused(skew, model, serving):
    classes = served_by(model, serving, serving.skewed("crop-right-1"))[:399]
    status, out = skew(rows(classes, range(1, 400)))
    assert status == 4
    assert "the predictions fit the images before theirs, so the numbers in image begin at 1" in out


@pytest.mark.parametrize(("tied", "status"), [(0, 0), (9, 4), (44, 1)])
@pytest.mark.parametrize("numbered", [True, False], ids=["numbered", "in order"])
def test_probabilities_that_tie_count_as_changed(zoo, skew, known, *, numbered, tied, status):
    """Also where the first of the leading classes is the reference's."""
    scores = np.eye(4)[known]
    scores[40 : 40 + tied] = [0.25, 0.25, 0.25, 0.25]
    np.savez(zoo.root / "served.npz", probabilities=scores)
    lines = [",".join(map(str, [number, *row])) for number, row in enumerate(scores.tolist())]
    text = "\n".join([",".join(["image", *CLASSES]), *lines]) + "\n" if numbered else None
    found, out = skew(text, name="served.csv" if numbered else "served.npz", tolerance="3%")
    assert found == status
    assert f": {tied} of 400 predictions" in out
    assert (f"undecided: {tied} predictions tie and count as changed" in out) == bool(tied)
    assert "cause" not in out


@pytest.mark.parametrize("count", [0, 3, 12, 20, 24])
def test_the_outcomes_are_those_of_equal(zoo, skew, known, monkeypatch, count):
    """The same predictions as an artifact beside its original.

    The exit status of both commands is the same.
    """
    monkeypatch.setattr("harness.features.skew.diagnosis.explained", lambda found, _: found)
    classes, at = known.copy(), np.random.default_rng(count).permutation(400)[:count]
    classes[at] = (classes[at] + 1) % 4
    status, _ = skew(rows(classes), tolerance="3%")
    settings = ("--data", zoo.data, "--tolerance", "3%")
    assert main(["equal", "predictions:served.csv", "--original", MODEL, *settings]) == status


# Causes.


def test_the_cause_stands_in_one_line_beside_undecided_predictions(model, serving):
    classes = served_by(model, serving, serving.skewed("gamma-linear")).copy()
    classes[:40] = UNDECIDED
    found = diagnosis(model, serving.images, classes)
    assert (found.undecided, found.named, found.causes) == (40, True, (("color",),))
    assert (found.best.explains.n, found.best.explains.net) == (360, 1)
    lines = diagnosis_lines(found)
    assert [line for line in lines if line.startswith("cause")] == [
        "cause: color: gray, gamma 2.2 (skew gamma-linear)"
    ]
    assert any("changed predictions (100.0%, " in line for line in lines)
    assert any(line.startswith("runner-up: ") for line in lines)


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("color", lambda reference: replace(reference, color=replace(reference.color, gamma=3.0))),
        ("crop", lambda reference: replace(reference, crop=replace(reference.crop, right=3))),
        (
            AFFINE,
            lambda reference: replace(reference, scale=replace(reference.scale, divisor=140.0)),
        ),
        ("resize", lambda reference: replace(reference, resize=(Resize((16, 16), middle=0.8),))),
    ],
)
def test_a_parameter_that_the_catalog_lacks_is_found(model, serving, stage, change):
    found = diagnosis(model, serving.images, served_by(model, serving, change(serving.reference)))
    assert (found.outcome, found.named, found.causes) == ("different", True, ((stage,),))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stretch-horizontal", "stretched horizontally to 114.3%"),
        ("stretch-vertical", "stretched vertically to 114.3%"),
    ],
)
def test_a_stretch_is_named(model, serving, name, words):
    found = diagnosis(model, serving.images, served_by(model, serving, serving.skewed(name)))
    assert (found.named, found.causes, found.best.skew) == (True, (("resize",),), name)
    assert words in "".join(diagnosis_lines(found))


@pytest.mark.parametrize("factors", [(1.0, 0.9), (0.85, 1.0)], ids=["narrower", "flatter"])
def test_a_stretch_that_leaves_a_margin_is_found(model, serving, factors):
    """No list of the search has these factors."""
    pipeline = stretched(serving.reference, (16, 16), factors)
    found = diagnosis(model, serving.images, served_by(model, serving, pipeline))
    assert (found.named, found.causes) == (True, (("resize",),))
    assert found.best.pipeline.resize[-1].stretch == pytest.approx(factors, abs=0.05)


def test_a_gain_and_an_offset_are_named_with_their_values(model, serving):
    """By predicted classes alone, other curves of brightness may not be told apart from them."""
    pipeline = serving.reference.but("scale", divisor=255 / 0.7, offset=0.1)
    found = diagnosis(model, serving.images, served_by(model, serving, pipeline))
    assert (found.named, found.causes[0]) == (True, (AFFINE,))
    (cause,) = [line for line in diagnosis_lines(found) if line.startswith("cause")]
    assert re.search(r": scale or normalise: pixels × [\d.]+ [+-] [\d.]+$", cause)


def test_a_pair_of_stages_is_named(model, serving, monkeypatch):
    monkeypatch.setattr("harness.features.skew.trials._STEPS", 6)
    both = replace(serving.skewed("gamma-linear"), crop=serving.skewed("crop-right-1").crop)
    found = diagnosis(model, serving.images, served_by(model, serving, both))
    assert found.named
    assert [set(causes) for causes in found.causes] == [{"color", "crop"}]
    assert found.best.explains.net == 1


def test_scaling_and_normalization_by_numbers_are_one_cause(model, serving):
    found = diagnosis(
        model, serving.images, served_by(model, serving, serving.skewed("normalise-half"))
    )
    assert found.causes == ((AFFINE,),)
    assert {each.skew for each in (found.best, *found.alike)} >= {
        "minus-one-to-one",
        "normalise-half",
    }


def test_another_order_of_classes_is_named(model, serving, known):
    lines = diagnosis_lines(
        diagnosis(model, serving.images, np.array([0, 2, 3, 1])[known], tolerance=0.02)
    )
    assert any(
        line.startswith("cause: classes: the served model has its classes in another order: ")
        for line in lines
    )
    assert lines[0].startswith("Different: 0 of 400 predictions ")
    assert lines[0].endswith("once the classes are in the data's order.")
    classes = np.array([3, 2, 1, 0])[served_by(model, serving, serving.skewed("crop-right-1"))]
    assert diagnosis_json(diagnosis(model, serving.images, classes))["causes"] == [
        ["classes", "crop"]
    ]


def test_a_stage_that_swaps_classes_is_no_order_of_classes():
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 120, (200, 3, 8, 8), dtype=np.uint8), np.arange(200) % 2
    pixels[np.arange(200), 2 * labels] += 100
    images = LabelledImages(
        torch.from_numpy(pixels), torch.from_numpy(labels), ("red", "blue"), "made", "test"
    )
    reddest = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2, bias=False)
    )
    reddest[2].weight.data = torch.tensor([[9.0, 0, 0], [0, 0, 9.0]])
    model = role_model(model=reddest.eval())
    serving = model_serving(model, images)
    found = diagnosis(model, images, served_by(model, serving, serving.skewed("bgr")))
    assert (found.order, found.causes) == ("", (("color",),))


@pytest.mark.usefixtures("short")
def test_another_model_is_no_stage(model, serving):
    other = role_model(model=network(jitter=1.0, seed=5)).predict(serving.images).predicted
    found = diagnosis(model, serving.images, other)
    assert found.outcome == "different"
    assert any(line.startswith("cause: none of them") for line in diagnosis_lines(found))


@pytest.mark.usefixtures("short")
def test_few_changed_answers_are_a_difference_without_a_cause(model, serving, known):
    said = "\n".join(
        diagnosis_lines(diagnosis(model, serving.images, moved(known, 10), tolerance=0.005))
    )
    assert said.startswith("Different: ")
    assert "changed predictions to name a cause; give more images" in said
    assert "the likeliest so far: " in said
    found = diagnosis(model, serving.images, moved(known, 6), tolerance=0.1)
    assert (found.outcome, found.reference.changed, found.best) == ("equal", 6, None), (
        "within the tolerance"
    )


def test_an_identical_pipeline_is_never_blamed(model, serving, known):
    # At most one answer of 400 changes by noise, which is ten times what was measured.
    for seed in range(50):
        rng, classes = np.random.default_rng(seed), known.copy()
        classes[rng.integers(400)] = rng.integers(4)
        found = diagnosis(model, serving.images, classes, tolerance=0.02)
        assert (found.checks[0].outcome, found.named, found.best) == ("equal", False, None)


@pytest.mark.usefixtures("short")
def test_a_single_stage_is_not_charged_for_pairs(model, serving, known):
    """Pairs are looked for where a stage leaves much unexplained.

    Its own p keeps the number of single stages.
    """
    classes = served_by(model, serving, serving.skewed("gamma-linear")).copy()
    classes[:60] = moved(known, 60)[:60]
    found = diagnosis(model, serving.images, classes)
    assert found.named
    assert ("color",) in found.causes
    best = found.best.explains
    alone = binom.sf(best.explained - 1, best.explained + best.introduced, 0.5)
    assert found.p == pytest.approx(alone * found.comparisons, rel=1e-6, abs=0)
    assert found.comparisons < 2000


def test_a_predictor_is_tried_without_other_normalizations(serving, known):
    made = SimpleNamespace(
        identity=Identity("made", {}), provides=Provides(), predict=logits, close=None
    )
    classifier = Classifier(PredictorModel(made, classes=CLASSES))
    found = diagnosis(replace(role_model(), classifier=classifier), serving.images, known)
    assert "no other normalization is tried" in "".join(diagnosis_lines(found))


# Pictures that a server decodes by itself.


@pytest.fixture
def photographs(zoo):
    """Write JPEG files of twice the size of the images, in a folder for each class."""
    rng, images = np.random.default_rng(0), images_of(200)
    for number, (pixels, label) in enumerate(
        zip(images.pixels[:, 0].numpy(), images.labels.tolist(), strict=True)
    ):
        folder = zoo.root / "photographs" / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        large = pixels.repeat(2, axis=0).repeat(2, axis=1) + rng.normal(0, 60, (32, 32))
        Image.fromarray(large.clip(0, 255).astype(np.uint8)).save(
            folder / f"{number:03}.jpg", quality=95
        )
    return "folder:photographs"


def logits(pixels):
    with torch.inference_mode():
        return network()(torch.from_numpy(pixels.copy())).numpy()


@pytest.mark.parametrize(
    ("cause", "served"),
    [
        (
            "color",
            lambda picture: np.rint(
                255 * (np.asarray(picture.resize((16, 16), BILINEAR)) / 255) ** 1.9
            ),
        ),
        ("resize", lambda picture: picture.resize((20, 20), BILINEAR).crop((2, 2, 18, 18))),
        ("resize", lambda picture: picture.crop((3, 3, 29, 29)).resize((16, 16), BILINEAR)),
    ],
    ids=["gamma after resizing", "resized larger and cropped", "cropped and resized"],
)
def test_the_order_of_resizing_and_other_stages_is_found(photographs, zoo, model, cause, served):
    """A server's own code: none of its values is in a list of the search."""
    files = sorted((zoo.root / "photographs").rglob("*.jpg"))
    pixels = np.stack([np.asarray(served(Image.open(file)), np.float32) / 255 for file in files])
    found = diagnosis(
        model, load_images(photographs, size=(16, 16)), logits(pixels[:, None]).argmax(axis=1)
    )
    assert (found.named, found.causes) == (True, ((cause,),))


def answers_of_files(files):
    """Return the scores of a server that decodes by itself, and resizes without a filter."""
    pictures = [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_GRAYSCALE) for file in files]
    small = np.stack(
        [cv2.resize(picture, (16, 16), interpolation=cv2.INTER_NEAREST) for picture in pictures]
    )
    return logits(small[:, None].astype(np.float32) / 255)


def test_a_served_system_is_judged_with_its_decoder(skew, photographs, capsys):
    with inference_server(answers_of_files, shape=(-1,), datatype="BYTES", classes=4) as served:
        assert (
            main(["equal", served.url, "--original", MODEL, "--data", photographs, "--size", "16"])
            == 1
        )
        assert "Different: the artifact changes 62 of 200 predictions" in capsys.readouterr().out
        status, out = skew(None, "--size", "16", "--json", name=served.url, data=photographs)
    found = json.loads(out)
    assert (status, found["causes"], found["best"]["skew"]) == (
        1,
        [["resize"]],
        "resize-opencv-nearest",
    )
    assert found["best"]["explained_share"] == 1


def test_files_may_be_named_as_production_names_them(zoo, skew, photographs, model):
    names = sorted(path.name for path in (zoo.root / "photographs").rglob("*.jpg"))
    paths = sorted(
        str(path.relative_to(zoo.root)) for path in (zoo.root / "photographs").rglob("*.jpg")
    )
    classes = moved(
        model.predict(load_images(photographs, size=(16, 16))).predicted, 3
    )  # Too few to seek a cause.
    how = {"data": photographs, "tolerance": "10%"}
    uploads = [f"/srv/uploads/{path.split('/')[2]}" for path in paths]
    for named in (uploads, range(len(names))):
        _, out = skew(rows(classes, named), "--size", "16", "--json", **how)
        assert json.loads(out)["changed"] == 3
    status, out = skew(rows(classes[:10], [*uploads[:9], "cow.jpg"]), "--size", "16", **how)
    assert (status, "1 of 10 names in image are no files of the data: cow.jpg" in out) == (4, True)


# Words for a diagnosis.


def of_counts(serving, p, changed, explained, introduced):
    """Return a diagnosis of 2,000 predictions by these counts of the best pipeline.

    The p is that of its test.
    """
    pipeline = replace(serving.reference, crop=replace(serving.reference.crop, right=1))
    best = Trial(pipeline, ("crop",), explains=Explanation(2000, changed, explained, introduced))
    quantity = proportion(changed, 2000)
    check = Measurement(PREDICTIONS_CHANGED, changed / 2000, 2000, (0, 1), quantity=quantity)
    checks = (ToleranceTest(check, 0.01, title="all"),)
    facts = {"best": best, "runner_up": best, "p": p, "p_next": 1e-9, "comparisons": 60_762}
    return SkewDiagnosis(serving, best.explains, checks, **facts)


@pytest.mark.parametrize(
    ("counts", "p", "said"),
    [
        ((60, 40, 9), 0.6, "not proven: probably "),
        ((300, 200, 80), 1e-6, "not proven: probably "),
        ((300, 120, 10), 1e-9, "none of them"),
        ((300, 200, 190), 1.0, "none of them"),
        ((300, 200, 10), 1e-9, "crop: "),
    ],
)
def test_what_explains_more_than_half_is_probable(serving, counts, p, said):
    found = of_counts(serving, p, *counts)
    lines = diagnosis_lines(found)
    (cause,) = [line for line in lines if line.startswith("cause: ")]
    assert cause.startswith(f"cause: {said}")
    assert found.probable == ("probably" in said)
    assert any("runner-up" in line for line in lines) == found.named
    assert "60,762" not in "".join(lines)
    assert diagnosis_json(found)["comparisons"] == 60_762


def test_answers_to_other_images_are_told_from_another_model(model, serving, known):
    shuffled = np.random.default_rng(0).permutation(known)
    assert is_unrelated(shuffled, known)
    assert not is_unrelated(served_by(model, serving, serving.skewed("gamma-linear")), known)
    best = Trial(serving.reference, ("crop",), explains=explanation(shuffled, known, known))
    found = replace(of_counts(serving, 1.0, 300, 0, 0), best=best, unrelated=True)
    assert "compare image with the numbers or names of the data" in "".join(diagnosis_lines(found))


# Trials of pipelines in rounds.


def trials_of(model, serving, name):
    known = model.predict(serving.images).predicted
    return Trials(model, serving, served_by(model, serving, serving.skewed(name)), known)


def test_images_that_are_looked_at_stand_for_all_of_their_kind(model, serving):
    """The score weighs 30 changed and 30 unchanged images by how many there are of each."""
    trials = trials_of(model, serving, "gamma-linear")
    changed = trials.served != trials.known
    assert 30 < changed.sum() < 370
    assert changed[:32].sum() == 16, "they take turns"
    assert sorted(trials.order) == list(range(400))
    whole = served_predictions(model, serving, serving.skewed("crop-right-1"))
    answers = whole.answers[trials.order]
    behind = np.maximum(answers[np.arange(400), trials.served] - answers.max(axis=1), np.log(1e-3))
    parts = [
        behind[:60][changed[:60] == which].mean() * (changed == which).sum()
        for which in (True, False)
    ]
    trial = trials.entered(serving.skewed("crop-right-1"), MANY)
    assert trials.score(trial) == pytest.approx(sum(parts), rel=1e-5)
    assert len(trial.answers) == 60
    trials.advance(trial, WHOLE)
    assert np.array_equal(trial.answers, whole.predicted[trials.order])


def test_a_race_leaves_the_true_pipeline_for_a_third_of_the_images(model, serving, monkeypatch):
    name, asked = "gamma-linear", []

    def counted(model, serving, pipeline):
        asked.append(len(serving.images))
        return served_predictions(model, serving, pipeline)

    monkeypatch.setattr("harness.features.skew.trials.served_predictions", counted)
    trials = trials_of(model, serving, name)
    trials.race([*serving.catalog.values(), *variations(serving.reference, (16, 16))])
    assert trials.score(trials.ranked()[0]) == 0
    assert serving.skewed(name) in [
        trial.pipeline for trial in trials.ranked() if trials.score(trial) == 0
    ]
    assert sum(asked) < len(trials) * 400 / 3
    assert {trial.causes for trial in trials.ranked(MANY)} == {
        trial.causes for trial in trials.ranked(0)
    }


@pytest.mark.usefixtures("short")
def test_pairs_that_could_prove_nothing_are_not_tried(model, serving):
    # The served answers are those of a skew but for 6: a pair is better than the skew on these
    # alone.
    served = served_by(model, serving, serving.skewed("gamma-linear")).copy()
    served[:6] = (served[:6] + 1) % 4
    found = diagnosis(model, serving.images, served)
    assert found.named
    assert {len(each.causes) for each in (found.best, *found.alike, found.runner_up)} == {1}
    assert found.comparisons < 1000
