"""Files of recorded predictions.

Read in three formats, matched by pixels, and refused in one sentence with counts.
"""

import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from zoo import CLASSES, images_of

from harness.base.errors import InputError
from harness.data import load_images
from harness.data.exported import Export, as_stored, names_of
from harness.data.images import unit_range
from harness.inference.predictors.kinds import model_spec, open_predictor
from harness.inference.predictors.protocol import UnknownPixelsError
from harness.inference.predictors.recorded import answers_to_some
from harness.inference.role import load
from harness.networks import NetworkOptions
from harness.perturb import Pose

COUNT = 40


@pytest.fixture
def images():
    return images_of(COUNT)


@pytest.fixture
def pixels(images):
    """Return clean and rotated images, as an export of both would hold them."""
    clean = unit_range(images.pixels)
    return np.concatenate([clean.numpy(), Pose(10.0)(clean).numpy()])


@pytest.fixture
def arrays(images, pixels):
    """Return the arrays of a file that answers an export."""
    names = names_of(as_stored(pixels, "float32"))
    scores = np.random.default_rng(0).dirichlet(np.ones(4), len(names)).astype(np.float32)
    export = Export(1, "float32", images.sha256, ("a",), "s").holding(names)
    return {"export": np.array(str(export)), "image": names, "probabilities": scores}


@pytest.fixture
def opened(tmp_path, images, arrays):
    """Return what writes arrays, with some changed or, if None, left out, and opens the file."""

    def write(name="answers.npz", **changed):
        content = {key: value for key, value in {**arrays, **changed}.items() if value is not None}
        path = tmp_path / name
        if name.endswith(".npz"):
            np.savez(path, **content)
        else:
            write_table(path, content)
        return open_predictor(f"predictions:{path}", NetworkOptions(), images)

    return write


def write_table(path, content):
    """Write arrays as a table: the line of the export in its first row alone."""
    count = len(content["image"])
    columns = {
        "image": [
            name.decode() if isinstance(name, bytes) else name for name in content["image"].tolist()
        ]
    }
    if "export" in content:
        columns["export"] = [str(content["export"]), *[""] * (count - 1)]
    if "labels" in content:
        columns["label"] = content["labels"].tolist()
    else:
        columns |= {
            name: content["probabilities"][:, at].tolist() for at, name in enumerate(CLASSES)
        }
    if path.suffix == ".parquet":
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(arrow.table(columns), path)
        return
    lines = [
        ",".join(columns),
        *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")


@pytest.mark.parametrize("name", ["answers.npz", "answers.csv", "answers.parquet"])
def test_an_answer_is_found_by_its_pixels(opened, pixels, arrays, name):
    shuffled = np.random.default_rng(1).permutation(len(pixels))
    predictor = opened(
        name, image=arrays["image"][shuffled], probabilities=arrays["probabilities"][shuffled]
    )
    assert predictor.provides.scores == "probabilities"
    assert not predictor.provides.live
    assert np.array_equal(predictor.predict(pixels[::-1]), arrays["probabilities"][::-1])


def test_names_may_be_text_and_labels_names_of_classes(opened, pixels, arrays):
    order = [2, 0, 3, 1]
    predictor = opened(
        image=arrays["image"].astype(str),
        probabilities=arrays["probabilities"][:, order],
        classes=np.array(CLASSES)[order],
    )
    assert np.array_equal(predictor.predict(pixels), arrays["probabilities"])
    labels = np.arange(len(pixels)) % 4
    predictor = opened("answers.csv", probabilities=None, labels=np.array(CLASSES)[labels])
    assert np.array_equal(predictor.predict(pixels), labels)
    with pytest.raises(InputError, match="its logits have NaN or infinity for 80 of 80 images"):
        opened(probabilities=None, logits=(arrays["probabilities"].astype(float) + 1) * 1e300)


@pytest.mark.parametrize("name", ["answers.npz", "answers.csv", "answers.parquet"])
def test_labels_are_answers(opened, pixels, name):
    labels = np.arange(len(pixels)) % 4
    predictor = opened(name, probabilities=None, labels=labels)
    assert predictor.provides.scores == "labels"
    assert np.array_equal(predictor.predict(pixels), labels)


def test_the_identity_is_known_before_the_answers(opened, tmp_path, images, pixels):
    found = opened()
    alone = open_predictor(f"predictions:{tmp_path / 'answers.npz'}", NetworkOptions(), None)
    assert alone.identity.sha256 == found.identity.sha256
    other = opened(
        export=None, image=None, probabilities=np.eye(4, dtype=np.float32)[images.labels]
    )
    assert other.identity.sha256 != found.identity.sha256
    pixels[3] *= 0.5
    with pytest.raises(UnknownPixelsError, match="has no prediction for 1 of 80 images"):
        opened().predict(pixels)


@pytest.mark.parametrize(
    "numbers",
    [None, np.arange(COUNT), np.arange(COUNT)[::-1]],
    ids=["in-order", "by-number", "back"],
)
def test_clean_images_alone_need_no_export(opened, images, pixels, numbers):
    order = np.arange(COUNT) if numbers is None else numbers
    labels = images.labels.numpy()[order]
    predictor = opened(export=None, probabilities=None, image=numbers, labels=labels)
    assert np.array_equal(predictor.predict(pixels[:COUNT]), images.labels.numpy())
    with pytest.raises(UnknownPixelsError, match="predictions of clean images only"):
        predictor.predict(pixels[COUNT:])


def both(arrays, change):
    """Return names and probabilities with the same change."""
    return {name: change(arrays[name]) for name in ("image", "probabilities")}


def ending(arrays, *names):
    """Return the names of images with these at their end."""
    return np.concatenate([arrays["image"][: 80 - len(names)], np.array(names, "S64")])


ONE_OF = "expected exactly one of labels, probabilities and logits"
UNPICKLED = "holds Python objects, which are never unpickled"
WRONG = {
    "lacks images": (lambda a: both(a, lambda values: values[:-5]), "lacks 5 of the 80"),
    "repeats images": (
        lambda a: both(a, lambda of: np.concatenate([of, of[:3]])),
        "83 rows of 80 images",
    ),
    "repeats in place of others": (
        lambda a: {"image": ending(a, *a["image"][:3])},
        "lacks 3 of the 80 images",
    ),
    "foreign images": (
        lambda a: {"image": ending(a, b"f" * 64)},
        "80 rows of 80 images, .*80 images of its export",
    ),
    "more images": (
        lambda a: (
            both(a, lambda of: np.concatenate([of, of[:1]]))
            | {"image": np.append(a["image"], b"f" * 64)}
        ),
        "has 81 rows of 81 images, expected one row for each of the 80",
    ),
    "another protocol": (
        lambda a: {"export": str(a["export"]).replace("protocol=1", "protocol=2")},
        "of protocol 2",
    ),
    "no line of an export": (
        lambda _: {"export": None},
        "has names of exported images but no line export",
    ),
    "a line of something else": (
        lambda _: {"export": "inputs"},
        "expected the line `export` of the manifest.json",
    ),
    "several lines": (
        lambda a: {"export": np.array([str(a["export"])] * 2)},
        "has 2 different lines in export",
    ),
    "no names": (lambda _: {"image": None}, "has an export but no names of images"),
    "names of files": (
        lambda _: {"image": np.array([f"{n}.png" for n in range(80)])},
        "as '0.png', and the data",
    ),
    "names as objects": (lambda a: {"image": a["image"].astype(object)}, UNPICKLED),
    "labels as objects": (
        lambda _: {"probabilities": None, "labels": np.array([{}] * 80)},
        UNPICKLED,
    ),
    "another length": (
        lambda a: {"probabilities": a["probabilities"][:-5]},
        "has 80 images and 75 predictions",
    ),
    "too few classes": (
        lambda a: {"probabilities": a["probabilities"][:, :3]},
        r"for 80 .*expected \(80, 4\)",
    ),
    "other classes": (
        lambda _: {"classes": np.array(list("abcd"))},
        "lacks ant, bee, cat, dog, has besides a",
    ),
    "not a number": (
        lambda a: {
            "probabilities": np.where(np.arange(80)[:, None] < 7, np.nan, a["probabilities"])
        },
        "NaN or infinity for 7 of 80 images",
    ),
    "integers for probabilities": (
        lambda a: {"probabilities": a["probabilities"].astype(int)},
        "are int64",
    ),
    "labels that are no class": (
        lambda _: {"probabilities": None, "labels": np.arange(80)},
        "76 of 80 labels are no class: 4, 5, 6, 7, 8 and 71 more; the data have classes 0 to 3",
    ),
    "labels as floats": (
        lambda _: {"probabilities": None, "labels": np.zeros(80)},
        "labels are float64",
    ),
    "labels and probabilities": (lambda _: {"labels": np.zeros(80, dtype=int)}, ONE_OF),
    "arrays of data": (
        lambda _: {"images": np.zeros((80, 4, 4)), "masks": np.zeros(80)},
        "has the arrays images, masks",
    ),
    "no answers": (lambda _: {"probabilities": None}, ONE_OF),
    "three axes": (
        lambda a: {"probabilities": a["probabilities"][..., None]},
        r"the shape \(80, 4, 1\)",
    ),
    "empty": (
        lambda a: both(a, lambda values: values[:0]),
        "has no rows; expected a row for each image",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_refused_in_one_sentence(opened, arrays, kind):
    change, message = WRONG[kind]
    with pytest.raises(InputError, match=message) as refused:
        opened(**change(arrays))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (np.arange(30), "lacks 10 of the 40 images of the data"),
        (np.concatenate([np.arange(COUNT), [3, 4]]), "repeats 2 of its 42 images"),
        (np.concatenate([np.arange(COUNT), [77]]), "has 1 images that the data do not have: 77"),
        (None, "has 39 predictions without names or numbers of images, the data have 40"),
    ],
)
def test_wrong_answers_to_clean_images_are_refused(opened, numbers, message):
    count = 39 if numbers is None else len(numbers)
    with pytest.raises(InputError, match=message):
        opened(export=None, probabilities=None, image=numbers, labels=np.zeros(count, dtype=int))


def test_equal_images_with_other_answers_and_bytes_are_refused(tmp_path, images, arrays):
    twice = images.take(torch.tensor([0, 1, 1]))
    path = tmp_path / "answers.npz"
    np.savez(path, labels=np.array([0, 1, 2]), image=np.array([0, 1, 1]))
    with pytest.raises(InputError, match="repeats 1 of its 3 images"):
        open_predictor(f"predictions:{path}", NetworkOptions(), twice)
    pixels = images.pixels[[0, 1, 1]]
    equal = replace(images, pixels=pixels, labels=images.labels[:3])
    np.savez(path, labels=np.array([0, 1, 2]))
    with pytest.raises(
        InputError, match="has other predictions for 1 images than for images with the same pixels"
    ):
        open_predictor(f"predictions:{path}", NetworkOptions(), equal)
    path = tmp_path / "answers.csv"
    rows = [
        f"{name},ant,{arrays['export'] if at == 0 else ''}"
        for at, name in enumerate(arrays["image"].tolist())
    ]
    path.write_text("\n".join(["image,label,export", *rows]))
    with pytest.raises(InputError, match=r"80 of 80 names .* such as \"b'.*as text, not b'…'"):
        open_predictor(f"predictions:{path}", NetworkOptions(), images)


@pytest.mark.parametrize("first", [0, 1])
def test_names_that_are_numbers_are_no_mixture(tmp_path, images, first):
    path, labels = tmp_path / "answers.csv", images.labels.numpy()
    path.write_text(
        "image,label\n" + "".join(f"{n},{label + first}\n" for n, label in enumerate(labels))
    )
    named = replace(images, classes=("1", "2", "3", "4"))
    predictor = open_predictor(f"predictions:{path}", NetworkOptions(), named)
    assert np.array_equal(predictor.predict(unit_range(images.pixels).numpy()), labels)


def test_spaces_and_empty_lines_say_nothing(tmp_path, images, pixels, opened):
    path, labels = tmp_path / "answers.csv", images.labels.numpy()
    path.write_text(
        "image,label\n\n" + "".join(f" {n} , {label}\n\n" for n, label in enumerate(labels))
    )
    predictor = open_predictor(f"predictions:{path}", NetworkOptions(), images)
    assert np.array_equal(predictor.predict(pixels[:COUNT]), labels)
    opened(export=None, probabilities=None, image=None, labels=images.labels.numpy())
    sample = images.take(torch.tensor([5, 7, 30]))
    predictor = open_predictor(f"predictions:{tmp_path / 'answers.npz'}", NetworkOptions(), sample)
    assert np.array_equal(predictor.predict(pixels[[30, 5]]), images.labels.numpy()[[30, 5]])


def test_what_a_file_says_comes_before_settings_for_other_models(
    opened, tmp_path, images, pixels, arrays
):
    others = NetworkOptions(model_outputs="logits", classes=",".join(CLASSES[::-1]))
    labels = np.arange(len(pixels)) % 4
    opened(classes=np.array(CLASSES))
    opened("answers.csv", probabilities=None, labels=np.array(CLASSES)[labels])
    for file, scores, expected in (
        ("answers.npz", "probabilities", arrays["probabilities"].argmax(axis=1)),
        ("answers.csv", "labels", labels),
    ):
        model = load(model_spec(f"predictions:{tmp_path / file}"), others, images).model
        assert model.provides.scores == scores
        assert np.array_equal(model(torch.from_numpy(pixels)).argmax(dim=1), expected)


TEXTS = {
    "": "is empty",
    "image,label\n": "has no rows",
    "image\n0\n": "expected image, and either label or one column for each class",
    "label\nant\n": "expected image, and either label",
    "image,label,label\n0,ant,ant\n": "has the columns label twice",
    "image,ant,bee,cat\n0,1,0,0\n": "one column for each class",
    "image,label\n0,ant\n1\n": "line 3 has 1 values, expected 2",
    "image,label\n0,fox\n1,hen\n2,ant\n": r"2 labels are no class of the data \('fox', 'hen'\)",
    "image,ant,bee,cat,dog\n0,1,0,0,x\n": "has empty cells or other values than numbers",
    "image,label\n0,ant\n1,1\n": "1 are names of classes and 1 are numbers. Expected only names",
    "image,label\na.png,ant\n": (
        "names images as 'a.png', and the data have no files; expected their numbers, from 0"
    ),
    'image,label\n0,"ant\n': "cannot be read as CSV",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_wrong_table_is_refused(tmp_path, images, text):
    path = tmp_path / "answers.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=TEXTS[text]) as refused:
        open_predictor(f"predictions:{path}", NetworkOptions(), images)
    assert "\n" not in str(refused.value)


def broken(path, how):
    np.savez(path, labels=np.zeros(COUNT, dtype=int))
    match how:
        case "missing":
            path.unlink()
        case "a folder":
            path.unlink()
            path.mkdir()
        case "a pipe":
            path.unlink()
            os.mkfifo(path)
        case "cut":
            path.write_bytes(path.read_bytes()[:-40])
        case "no archive":
            path.write_bytes(b"labels")
        case "a single array":
            with path.open("wb") as file:
                np.save(file, np.zeros(COUNT))
        case "a pickle":
            path.write_bytes(b"\x80\x04cos\nsystem\n.")
        case "a bomb":
            with (
                zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
                archive.open("labels.npy", "w") as member,
            ):
                np.lib.format.write_array_header_1_0(
                    member, {"descr": "<i8", "fortran_order": False, "shape": (1 << 40,)}
                )
                member.write(b"\0" * 1_000)


@pytest.mark.parametrize(
    "how",
    ["missing", "a folder", "a pipe", "cut", "no archive", "a single array", "a pickle", "a bomb"],
)
def test_a_file_out_of_order_is_refused(tmp_path, images, how):
    path = tmp_path / "answers.npz"
    broken(path, how)
    with pytest.raises(InputError, match=r"cannot be read|holds a single array") as refused:
        open_predictor(f"predictions:{path}", NetworkOptions(), images)
    assert "\n" not in str(refused.value)


@pytest.fixture(params=["csv", "npz"])
def data_file(request, tmp_path):
    """Return the specification of data, and their file.

    The file could pass for recorded predictions.
    """
    path = tmp_path / f"data.{request.param}"
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8), dtype=np.uint8)
    labels = np.arange(COUNT) % 4
    if request.param == "npz":
        np.savez(path, images=images, labels=labels)
    else:
        for number, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / f"{number}.png")
        lines = [f"{number}.png,{label},{number}" for number, label in enumerate(labels)]
        path.write_text("\n".join(["path,label,image", *lines]))
    return f"{request.param}:{path}", path


@pytest.mark.parametrize("how", ["itself", "link", "hard link", "copy"])
def test_the_file_of_the_data_is_refused(tmp_path, data_file, how):
    spec, path = data_file
    other = tmp_path / f"other{path.suffix}"
    make = {"link": other.symlink_to, "hard link": other.hardlink_to}
    make.get(how, lambda file: other.write_bytes(file.read_bytes()))(path)
    images = load_images(spec)
    named = path if how == "itself" else other
    for ask in (
        lambda: open_predictor(
            f"predictions:{named}", NetworkOptions(), images.take(torch.arange(8))
        ),
        lambda: answers_to_some(named, images, outputs=None),
    ):
        with pytest.raises(InputError, match="is the file of the data"):
            ask()


def test_files_of_another_kind_or_damaged_are_refused(tmp_path, images):
    path = tmp_path / "answers.pkl"
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(
        InputError, match=r"answers.pkl is no file of predictions; expected .npz, .csv, .parquet"
    ):
        open_predictor(f"predictions:{path}", NetworkOptions(), images)
    pytest.importorskip("pyarrow")
    path = tmp_path / "answers.parquet"
    path.write_bytes(b"PAR1 and nothing else PAR1")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        open_predictor(f"predictions:{path}", NetworkOptions(), images)
