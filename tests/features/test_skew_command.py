"""The command `skew`: the cause of served predictions, none for noise and for another model, and refused files."""

import json
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from inference_servers import inference_server
from PIL import Image
from zoo import CLASSES, Zoo, images_of, network, role_model

from harness.checks.tolerance import ToleranceTest
from harness.cli import main
from harness.data import LabelledImages, load_images
from harness.data.serving import SKEWS
from harness.data.stages import Crop, Resize
from harness.features.skew.diagnosis import Diagnosis, diagnosis
from harness.features.skew.report import diagnosis_json, diagnosis_lines
from harness.features.skew.trials import AFFINE, Trial
from harness.inference import Classifier
from harness.inference.predictors.network import PredictorModel
from harness.inference.predictors.protocol import Identity, Provides
from harness.inference.predictors.recorded import UNDECIDED, answers_to_some
from harness.inference.serving import model_serving, served_predictions
from harness.measures.changed_predictions import PREDICTIONS_CHANGED
from harness.measures.equivalence import proportion
from harness.measures.metric import Measurement
from harness.measures.serving import Explanation, explanation, is_unrelated

MODEL = "models/augmented.safetensors"


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


@pytest.fixture
def skew(zoo, capsys):
    """Run the command on classes, of all images or of those numbered; returns its exit status and what it printed."""

    def run(classes, *more, numbers=None, tolerance="2%"):
        rows = zip(range(len(classes)) if numbers is None else numbers, classes, strict=True)
        lines = ["image,label", *(f"{number},{CLASSES[label]}" for number, label in rows)]
        (zoo.root / "served.csv").write_text("\n".join(lines) + "\n")
        line = ["skew", MODEL, "--served", "served.csv", "--data", zoo.data, "--tolerance", tolerance, *more]
        status = main(line)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def served_by(model, serving, pipeline):
    return served_predictions(model, serving, pipeline).predicted


def test_a_model_that_is_served_as_judged_gives_0(skew, model, serving):
    status, out, _ = skew(model.predict(serving.images).predicted)
    assert status == 0
    assert out.splitlines()[1] == (
        "Served as judged: 0 of 400 predictions (0.0%, at most 1.1% with 99% confidence, tolerance 2.0%) are not those "
        "of the reference pipeline; 0 correct predictions are lost, net."
    )


def test_too_few_images_give_4_and_the_number_needed(skew, model, serving):
    status, out, _ = skew(model.predict(serving.images).predicted, tolerance="1%")
    assert status == 4
    assert out.splitlines()[1].endswith("; about 59 more images would tell.")


@pytest.mark.parametrize("name", ["gamma-linear", "crop-right-1"])
def test_a_skew_of_the_catalog_is_named(skew, model, serving, name):
    status, out, _ = skew(served_by(model, serving, serving.skewed(name)), "--json")
    found = json.loads(out)
    assert status == 1
    assert found["outcome"] == "different"
    assert found["named"]
    assert found["causes"] == [[SKEWS[name].stage]]
    assert found["best"]["skew"] == name
    assert found["best"]["explained_share"] == 1
    assert found["p_next"] < 0.01
    assert found["runner_up"]["stages"] != found["best"]["stages"]


def test_the_cause_stands_in_one_line(skew, model, serving):
    status, out, _ = skew(served_by(model, serving, serving.skewed("gamma-linear")))
    assert status == 1
    (cause,) = [line for line in out.splitlines() if line.startswith("cause")]
    assert cause == "cause: color: gray, gamma 2.2 (skew gamma-linear)"
    assert "explains 1" in out
    assert "runner-up: " in out


def test_some_images_in_any_order_are_enough(skew, model, serving):
    classes = served_by(model, serving, serving.skewed("crop-right-1"))
    numbers = np.random.default_rng(1).permutation(400)[:300]
    status, out, _ = skew(classes[numbers], "--json", numbers=numbers)
    found = json.loads(out)
    assert (status, found["images"], found["causes"]) == (1, 300, [["crop"]])


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("color", lambda reference: replace(reference, color=replace(reference.color, gamma=2.6))),
        ("crop", lambda reference: replace(reference, crop=replace(reference.crop, right=3))),
        (AFFINE, lambda reference: replace(reference, scale=replace(reference.scale, divisor=140.0))),
        ("resize", lambda reference: replace(reference, resize=(Resize(20),), crop=Crop((16, 16)))),
        ("resize", lambda reference: replace(reference, resize=(Resize((16, 16), middle=0.8),))),
    ],
)
def test_a_parameter_that_the_catalog_lacks_is_found(model, serving, stage, change):
    found = diagnosis(model, serving.images, served_by(model, serving, change(serving.reference)))
    assert found.outcome == "different"
    assert found.named
    assert found.causes == ((stage,),)


def test_a_pair_of_stages_is_named(model, serving):
    gamma = serving.skewed("gamma-linear")
    both = replace(gamma, crop=serving.skewed("crop-right-1").crop)
    found = diagnosis(model, serving.images, served_by(model, serving, both))
    assert found.named
    assert [set(causes) for causes in found.causes] == [{"color", "crop"}]
    assert found.best.explains.net == 1


def test_scaling_and_normalization_by_numbers_are_one_cause(model, serving):
    found = diagnosis(model, serving.images, served_by(model, serving, serving.skewed("normalise-half")))
    assert found.causes == ((AFFINE,),)
    assert {each.skew for each in (found.best, *found.alike)} >= {"minus-one-to-one", "normalise-half"}


def test_another_order_of_classes_is_named(skew, model, serving):
    places = np.array([0, 2, 3, 1])
    status, out, _ = skew(places[model.predict(serving.images).predicted])
    assert status == 1
    assert "cause: classes: the served model has its classes in another order: bee is predicted as cat" in out
    assert (
        "0 of 400 predictions (0.0%, at most 1.1% with 99% confidence, tolerance 2.0%) are not those of the reference "
        "pipeline once the classes are in the data's order." in out
    )


def test_a_stage_that_swaps_classes_is_no_order_of_classes():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 120, (200, 3, 8, 8), dtype=np.uint8)
    labels = np.arange(200) % 2
    pixels[np.arange(200), 2 * labels] += 100
    images = LabelledImages(torch.from_numpy(pixels), torch.from_numpy(labels), ("red", "blue"), "made", "test")
    reddest = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2, bias=False))
    reddest[2].weight.data = torch.tensor([[9.0, 0, 0], [0, 0, 9.0]])
    model = role_model(model=reddest.eval())
    serving = model_serving(model, images)
    found = diagnosis(model, images, served_by(model, serving, serving.skewed("bgr")))
    assert (found.order, found.causes) == ("", (("color",),))


def test_a_stage_is_named_behind_another_order_of_classes(skew, model, serving):
    classes = served_by(model, serving, serving.skewed("crop-right-1"))
    status, out, _ = skew(np.array([3, 2, 1, 0])[classes], "--json")
    assert status == 1
    assert json.loads(out)["causes"] == [["classes", "crop"]]


def test_another_model_is_no_stage(skew, serving):
    other = role_model(model=network(jitter=1.0, seed=5)).predict(serving.images).predicted
    status, out, _ = skew(other)
    assert status == 1
    assert "cause: none of them" in out


def test_few_changed_answers_are_a_difference_without_a_cause(skew, model, serving):
    classes = model.predict(serving.images).predicted.copy()
    classes[:10] = (classes[:10] + 1) % 4
    status, out, _ = skew(classes, tolerance="0.5%")
    assert status == 1
    assert "changed predictions to name a cause; give more images" in out
    assert "the likeliest so far: " in out


def test_changes_within_the_tolerance_without_a_cause_are_no_difference(model, serving):
    classes = model.predict(serving.images).predicted.copy()
    classes[:6] = (classes[:6] + 1) % 4
    found = diagnosis(model, serving.images, classes, tolerance=0.1)
    assert (found.outcome, found.reference.changed, found.best) == ("equal", 6, None)


@pytest.mark.parametrize("seed", range(50))
def test_an_identical_pipeline_is_never_blamed(model, serving, seed):
    # At most one answer of 400 changes by noise, which is ten times what was measured.
    rng = np.random.default_rng(seed)
    classes = model.predict(serving.images).predicted.copy()
    at = rng.integers(400)
    classes[at] = rng.integers(4)
    found = diagnosis(model, serving.images, classes, tolerance=0.02)
    assert found.checks[0].outcome == "equal"
    assert (found.outcome != "different", found.named, found.best) == (True, False, None)


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
    ],
)
def test_a_file_that_cannot_be_used_gives_4(zoo, capsys, text, said):
    (zoo.root / "served.csv").write_text(text)
    assert main(["skew", MODEL, "--served", "served.csv", "--data", zoo.data]) == 4
    assert said in capsys.readouterr().err


def test_a_file_in_another_encoding_gives_4(zoo, capsys):
    (zoo.root / "served.csv").write_bytes("image,label\n0,ant\n".encode("utf-16"))
    assert main(["skew", MODEL, "--served", "served.csv", "--data", zoo.data]) == 4
    assert "is no text in UTF-8 (invalid start byte at byte 0); save it in UTF-8" in capsys.readouterr().err


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
def test_a_table_is_read_as_tools_write_it(model, serving, tmp_path, head, row):
    classes = model.predict(serving.images).predicted
    path = tmp_path / "served.csv"
    path.write_text("\n".join([head, *map(row.format, range(400), classes)]), encoding="utf-8")
    numbers, served = answers_to_some(path, serving.images, outputs=None)
    assert np.array_equal(numbers, np.arange(400))
    assert np.array_equal(served, classes)


def test_numbers_that_begin_at_1_are_refused(skew, model, serving):
    classes = served_by(model, serving, serving.skewed("crop-right-1"))[:399]
    status, _, err = skew(classes, numbers=range(1, 400))
    assert status == 4
    assert "the predictions fit the images before theirs, so the numbers in image begin at 1" in err


def test_answers_to_other_images_are_told_from_another_model(model, serving):
    reference = model.predict(serving.images).predicted
    shuffled = np.random.default_rng(0).permutation(reference)
    assert is_unrelated(shuffled, reference)
    assert not is_unrelated(served_by(model, serving, serving.skewed("gamma-linear")), reference)
    explains = explanation(shuffled, reference, reference)
    best = Trial(serving.reference, ("crop",), explains=explains)
    found = replace(explained(serving, changed=300, explained=0, introduced=0, p=1.0), best=best, unrelated=True)
    assert "compare image with the numbers or names of the data" in "".join(diagnosis_lines(found))


@pytest.fixture
def photographs(zoo):
    """Write JPEG files of twice the size of the images, in a folder for each class."""
    rng = np.random.default_rng(0)
    images = images_of(200)
    for number, (pixels, label) in enumerate(zip(images.pixels[:, 0].numpy(), images.labels.tolist(), strict=True)):
        folder = zoo.root / "photographs" / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        large = pixels.repeat(2, axis=0).repeat(2, axis=1) + rng.normal(0, 60, (32, 32))
        Image.fromarray(large.clip(0, 255).astype(np.uint8)).save(folder / f"{number:03}.jpg", quality=95)
    return "folder:photographs"


@pytest.mark.parametrize(
    ("cause", "served"),
    [
        ("color", lambda picture: levels(picture.resize((16, 16), Image.Resampling.BILINEAR), 1.9)),
        ("resize", lambda picture: picture.resize((20, 20), Image.Resampling.BILINEAR).crop((2, 2, 18, 18))),
        ("resize", lambda picture: picture.crop((3, 3, 29, 29)).resize((16, 16), Image.Resampling.BILINEAR)),
    ],
    ids=["gamma after resizing", "resized larger and cropped", "cropped and resized"],
)
def test_the_order_of_resizing_and_other_stages_is_found(photographs, zoo, model, cause, served):
    """A server's own code: none of its values is in a list of the search."""
    images = load_images(photographs, size=(16, 16))
    files = sorted((zoo.root / "photographs").rglob("*.jpg"))
    pixels = np.stack([np.asarray(served(Image.open(file)), np.float32) / 255 for file in files])
    found = diagnosis(model, images, logits(pixels[:, None]).argmax(axis=1))
    assert found.named
    assert found.causes == ((cause,),)


def levels(picture, gamma):
    return np.rint(255 * (np.asarray(picture) / 255) ** gamma)


def answers_of_files(files):
    """Return the scores of a server that decodes by itself, and resizes without a filter."""
    pictures = [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_GRAYSCALE) for file in files]
    small = np.stack([cv2.resize(picture, (16, 16), interpolation=cv2.INTER_NEAREST) for picture in pictures])
    return logits(small[:, None].astype(np.float32) / 255)


def logits(pixels):
    with torch.inference_mode():
        return network()(torch.from_numpy(pixels.copy())).numpy()


def test_a_served_system_is_judged_with_its_decoder(zoo, photographs, capsys):
    with inference_server(answers_of_files, shape=(-1,), datatype="BYTES", classes=4) as served:
        settings = ("--data", photographs, "--size", "16")
        assert main(["equal", served.url, "--original", MODEL, *settings]) == 1
        assert "Different: the artifact changes 62 of 200 predictions" in capsys.readouterr().out
        assert main(["skew", MODEL, "--served", served.url, *settings, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["causes"] == [["resize"]]
    assert found["best"]["skew"] == "resize-opencv-nearest"
    assert found["best"]["explained_share"] == 1


def test_files_may_be_named_as_production_names_them(zoo, photographs, model, capsys):
    names = sorted(str(path.relative_to(zoo.root)) for path in (zoo.root / "photographs").rglob("*.jpg"))
    settings = ("--data", photographs, "--size", "16", "--tolerance", "10%")

    def said(rows):
        (zoo.root / "served.csv").write_text("\n".join(["image,label", *rows]) + "\n")
        return main(["skew", MODEL, "--served", "served.csv", *settings, "--json"]), capsys.readouterr()

    answers = model.predict(load_images(photographs, size=(16, 16))).predicted
    answers[:3] = (answers[:3] + 1) % 4  # So few that no cause is sought, which takes long.
    labels = [CLASSES[answer] for answer in answers]
    served = [f"/srv/uploads/{name.split('/')[2]},{label}" for name, label in zip(names, labels, strict=True)]
    numbered = [f"{number},{label}" for number, label in enumerate(labels)]
    (_, by_name), (_, by_number) = said(served), said(numbered)
    assert json.loads(by_name.out)["changed"] == json.loads(by_number.out)["changed"] == 3
    status, (_, err) = said([*served[:9], "cow.jpg,cat"])
    assert (status, "1 of 10 names in image are no files of the data: cow.jpg" in err) == (4, True)


@pytest.mark.parametrize(("tied", "status"), [(0, 0), (9, 4), (44, 1)])
@pytest.mark.parametrize("numbered", [True, False], ids=["numbered", "in order"])
def test_probabilities_that_tie_count_as_changed(zoo, model, serving, capsys, *, numbered, tied, status):
    """Also where the first of the leading classes is the reference's."""
    scores = np.eye(4)[model.predict(serving.images).predicted]
    scores[40 : 40 + tied] = [0.25, 0.25, 0.25, 0.25]
    if numbered:
        rows = [",".join(map(str, [number, *row])) for number, row in enumerate(scores.tolist())]
        (zoo.root / "served.csv").write_text("\n".join([",".join(["image", *CLASSES]), *rows]) + "\n")
    else:
        np.savez(zoo.root / "served.npz", probabilities=scores)
    file = "served.csv" if numbered else "served.npz"
    assert main(["skew", MODEL, "--served", file, "--data", zoo.data, "--tolerance", "3%"]) == status
    out = capsys.readouterr().out
    assert f": {tied} of 400 predictions" in out
    said = f"undecided: {tied} predictions tie and count as changed; write more digits, or labels"
    assert (said in out) == bool(tied)
    assert "cause" not in out


def test_a_stage_is_named_beside_undecided_predictions(model, serving):
    classes = served_by(model, serving, serving.skewed("gamma-linear")).copy()
    classes[:40] = UNDECIDED
    found = diagnosis(model, serving.images, classes)
    assert found.undecided == 40
    assert (found.named, found.causes) == (True, (("color",),))
    assert (found.best.explains.n, found.best.explains.net) == (360, 1)


@pytest.mark.parametrize("count", [0, 3, 12, 20, 24])
def test_the_outcomes_are_those_of_equal(zoo, skew, model, serving, count):
    """The same predictions as an artifact beside its original: the exit status of both commands is the same."""
    classes = model.predict(serving.images).predicted.copy()
    at = np.random.default_rng(count).permutation(400)[:count]
    classes[at] = (classes[at] + 1) % 4
    status, *_ = skew(classes, tolerance="3%")
    settings = ("--data", zoo.data, "--tolerance", "3%")
    assert main(["equal", "predictions:served.csv", "--original", MODEL, *settings]) == status


def explained(serving, **counts):
    """Return a diagnosis of 2,000 predictions whose best pipeline has these counts, with p of its test."""
    p, comparisons = counts.pop("p"), 60_762
    best = Trial(serving.reference, ("crop",), explains=Explanation(n=2000, **counts))
    check = ToleranceTest(predictions_measured(counts["changed"]), 0.01, title="all")
    return Diagnosis(
        serving, best.explains, (check,), best=best, runner_up=best, p=p, p_next=1e-9, comparisons=comparisons
    )


def predictions_measured(changed):
    return Measurement(PREDICTIONS_CHANGED, changed / 2000, 2000, (0, 1), quantity=proportion(changed, 2000))


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"changed": 60, "explained": 40, "introduced": 9, "p": 0.6}, "not proven: probably "),
        ({"changed": 300, "explained": 200, "introduced": 80, "p": 1e-6}, "not proven: probably "),
        ({"changed": 300, "explained": 120, "introduced": 10, "p": 1e-9}, "none of them"),
        ({"changed": 300, "explained": 200, "introduced": 190, "p": 1.0}, "none of them"),
        ({"changed": 300, "explained": 200, "introduced": 10, "p": 1e-9}, "crop: "),
    ],
)
def test_what_explains_more_than_half_is_probable(serving, counts, said):
    found = explained(serving, **counts)
    pipeline = replace(serving.reference, crop=replace(serving.reference.crop, right=1))
    found = replace(found, best=replace(found.best, pipeline=pipeline))
    lines = diagnosis_lines(found)
    (cause,) = [line for line in lines if line.startswith("cause: ")]
    assert cause.startswith(f"cause: {said}")
    assert found.probable == ("probably" in said)
    assert any("runner-up" in line for line in lines) == found.named
    assert "60,762" not in "".join(lines)
    assert diagnosis_json(found)["comparisons"] == 60_762


def test_a_single_stage_is_not_charged_for_pairs(model, serving):
    """Pairs are looked for where a stage leaves much unexplained; its own p keeps the number of single stages."""
    classes = served_by(model, serving, serving.skewed("gamma-linear")).copy()
    classes[:60] = (model.predict(serving.images).predicted[:60] + 1) % 4
    found = diagnosis(model, serving.images, classes)
    assert found.named
    assert ("color",) in found.causes
    assert found.comparisons < 2000


def test_a_predictor_is_tried_without_other_normalizations(model, serving):
    made = SimpleNamespace(identity=Identity("made", {}), provides=Provides(), predict=logits, close=None)
    classifier = Classifier(PredictorModel(made, classes=CLASSES))
    found = diagnosis(
        replace(role_model(), classifier=classifier), serving.images, model.predict(serving.images).predicted
    )
    assert "no other normalization is tried" in "".join(diagnosis_lines(found))


def test_a_missing_file_gives_4(zoo, capsys):
    assert main(["skew", MODEL, "--served", "nowhere.csv", "--data", zoo.data]) == 4
    assert "nowhere.csv" in capsys.readouterr().err
