"""`stress-harness golden`: images that must never be wrong again, in a set that stays.

Each image is a check.
"""

import hashlib
import os
import re
import threading
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from zoo import CLASSES, GatedZoo, checks_text, network

from harness.calibration.panel import Panel, ReferenceModel
from harness.checks import ChecksError, read_checks
from harness.cli import main
from harness.data.options import DataOptions
from harness.features.golden.golden_set import LIST, golden_set, labelled_images
from harness.inference import Classifier
from harness.run.opening import open_session
from harness.run.request import RunRequest
from harness.run.settings import ModelSettings

ROW = """
# A comment on the recipe.
[recipe]
panel = "panel.json"

# A comment that a person wrote.
[[check]]
id = "clean"
family = "clean"
metric = "accuracy"
hand = { threshold = 0.85 }
"""


class GoldenZoo(GatedZoo):
    """The zoo with a command to keep golden images, and its good network's predictions."""

    def __init__(self, pytester) -> None:
        super().__init__(pytester, tests=("clean",))
        self.bind(ROW)
        self.correct = Classifier(network(), workers=1).predict(self.images).correct
        self.right, self.wrong = (
            int(np.flatnonzero(which)[0]) for which in (self.correct, ~self.correct)
        )
        self.set = self.tests / "golden"

    def golden(self, *arguments: object, reason: str | None = "an incident") -> int:
        reasons = ("--reason", reason) if arguments[0] == "add" and reason is not None else ()
        return main(
            ["golden", *map(str, arguments), *reasons, "--", "--stress-set", f"data={self.data}"]
        )

    @property
    def moved(self) -> dict[str, str]:
        """Finding of the last run, by a mutant with its answers moved by one class."""
        (check,) = (
            check for check in self.report()["self_checks"] if check["name"] == "answers-moved"
        )
        return check

    @property
    def images_kept(self):
        return golden_set(read_checks(self.checks))

    @property
    def ids(self) -> list[str]:
        return [image.id for image in self.images_kept]

    def photographs(self, *shape: int, second: str = "bee", **pipeline) -> list[str]:
        """Make a checks file of two photographs of two classes.

        Returns the options that name them.
        """
        for label, name in enumerate(("ant", second)):
            self.picture(f"photos/{name}/{label}.png", self.noise(label, *shape))
        facts = {"data": f"folder:{self.root / 'photos'}", **pipeline}
        self.checks.write_text(checks_text(DataOptions(**facts).load(), ROW))
        return [
            part for name, value in facts.items() for part in ("--stress-set", f"{name}={value}")
        ]

    def picture(self, name: str, pixels: np.ndarray) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    def noise(self, seed: int = 0, *shape: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, shape or (16, 16), dtype=np.uint8)

    def open(self, **facts):
        options = RunRequest(
            roles={
                "candidate": self.root / "models/augmented.safetensors",
                "baseline": "none",
                "incumbent": "none",
            },
            checks=self.checks,
            no_cache=True,
        )
        return open_session(options.but(data=self.data, **facts))


@pytest.fixture
def zoo(pytester, monkeypatch):
    monkeypatch.chdir(pytester.path)
    return GoldenZoo(pytester)


# Each image is a check.


def test_a_model_that_gets_every_golden_image_right_passes_on_a_sample_too(zoo, capsys):
    assert zoo.golden("add", zoo.right) == 0
    (name,) = zoo.ids
    said = capsys.readouterr().out
    assert f"{name}: image {zoo.right} of zoo, {CLASSES[zoo.images.labels[zoo.right]]}" in said
    assert (
        "how many reference models predict it correctly is not known (panel.json: cannot be read"
        in said
    )
    assert zoo.run().ret == 0
    report = zoo.report()
    (entry,) = (check for check in report["checks"] if check["family"] == "golden")
    assert (report["verdict"], entry["id"], entry["status"], entry["n"]) == (
        "pass",
        name,
        "pass",
        1,
    )
    assert (entry["value"], entry["threshold"], entry["provenance"]) == (1.0, 1, "hand")
    assert "an incident" in entry["detail"]
    assert zoo.moved["status"] == "pass"
    assert zoo.run("--stress-samples", "8").ret == 0
    assert zoo.statuses[name] == "pass", "no sample leaves it out"
    assert zoo.run(record="all").ret == 4
    assert name not in zoo.statuses, "reference models are not measured on it"


@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "1"), marks=pytest.mark.faults)], ids=["serial", "parallel"]
)
def test_one_wrong_golden_image_fails_with_its_picture(zoo, workers):
    assert zoo.golden("add", zoo.right, zoo.wrong, reason="complaint 17") == 0
    right, wrong = zoo.ids
    result = zoo.run(*workers, page=True)
    assert result.ret == 1
    assert zoo.statuses == {"clean": "pass", "class": "informational", right: "pass", wrong: "fail"}
    result.stdout.fnmatch_lines(
        [f"*{wrong}: golden right 0.0000 < threshold 1.0000 (n=1*predicted as*complaint 17*"]
    )
    assert f"pictures-{wrong}" in (zoo.root / "reports/stress.html").read_text()


def test_a_wrong_image_that_moved_answers_mend_is_worse_not_unsound(zoo):
    """Predicted as the class before its own, which the self-check's mutant makes its own."""
    predicted = Classifier(network(), workers=1).predict(zoo.images).predicted
    mended = np.flatnonzero((predicted + 1) % 4 == zoo.images.labels.numpy())
    assert zoo.golden("add", mended[0]) == 0
    assert zoo.run().ret == 1
    assert zoo.report()["verdict"] == "fail"
    assert zoo.moved["status"] == "not_applicable"
    assert "the intact model fails all 1 checks of family 'golden'" in zoo.moved["detail"]
    assert zoo.golden("add", zoo.right) == 0
    assert zoo.run().ret == 1
    assert zoo.moved["status"] == "pass", "one image that is right is enough to notice"


def test_without_a_golden_set_nothing_is_measured_or_told_of_one(zoo):
    zoo.golden("add", zoo.right)
    assert zoo.golden("remove", *zoo.ids) == 0
    assert zoo.checks.read_text().count("[golden]") == 0
    assert list(zoo.set.iterdir()) == []
    result = zoo.run()
    assert result.ret == 0
    assert list(zoo.statuses) == ["clean", "class"]
    assert "deselected" not in result.stdout.str()


# Pictures of one's own.


def test_pictures_and_folders_are_made_as_the_present_images_are(zoo):
    colour = zoo.picture("seen.png", zoo.noise(1, 16, 16, 3))
    zoo.picture("shot/bee/a.png", zoo.noise(2))
    zoo.picture("shot/cat/b.bmp", zoo.noise(3))
    (zoo.root / "shot/cat/notes.txt").write_text("no picture")
    assert zoo.golden("add", "seen.png", "--class", "dog") == 0
    assert zoo.golden("add", "shot") == 0
    golden = zoo.open().other_images.of_rows["golden"]
    assert [golden.classes[label] for label in golden.labels] == ["dog", "bee", "cat"]
    assert golden.pixels.shape == (3, 1, 16, 16)
    assert np.array_equal(golden.pixels[1, 0].numpy(), zoo.noise(2))
    kept = [image.file for image in zoo.images_kept]
    assert (zoo.set / kept[0]).read_bytes() == colour.read_bytes(), "the file is kept as it was"
    assert [Path(name).suffix for name in kept] == [".png", ".png", ".bmp"]


def test_the_folder_of_a_picture_decides_not_its_link(zoo, monkeypatch):
    for number, place in enumerate(("dog/a.png", "ab/b.png", "dog/c.png")):
        zoo.picture(f"store/{place}", zoo.noise(number))
    for link, place in (
        ("cat/a.png", "dog/a.png"),
        ("bee/b.png", "ab/b.png"),
        ("cat/alone/c.png", "dog/c.png"),
    ):
        (zoo.root / "shot" / link).parent.mkdir(parents=True, exist_ok=True)
        (zoo.root / "shot" / link).symlink_to(zoo.root / "store" / place)
    assert zoo.golden("add", "shot") == 0
    assert [(image.source, image.class_name) for image in zoo.images_kept] == [
        ("b.png", "bee"),
        ("a.png", "cat"),
    ]
    monkeypatch.chdir(zoo.root / "shot/cat")
    (zoo.root / "shot/cat/alone/c.png").rename("c.png")
    assert zoo.golden("add", "./c.png", "--checks", zoo.checks) == 0
    assert zoo.images_kept[-1].class_name == "cat"


def test_a_golden_file_is_refused_again_with_other_pixels(zoo, capsys):
    options = ("--reason", "seen", "--", *zoo.photographs(24, 24, resize=20, crop=16))
    assert main(["golden", "add", "1", *options]) == 0
    (kept,) = zoo.set.glob("*.png")
    before = zoo.checks.read_bytes()
    assert main(["golden", "add", str(kept), "--class", "bee", *options]) == 2
    assert f"{kept.name}: is golden already, {kept.stem}, bee" in capsys.readouterr().err
    assert zoo.checks.read_bytes() == before
    assert main(["golden", "list"]) == 0


def test_names_and_reasons_that_are_no_text_are_kept_escaped(zoo):
    name = os.fsdecode(b"caf\xe9.png")
    zoo.picture("seen.png", zoo.noise()).rename(zoo.root / name)
    assert zoo.golden("add", name, "--class", "bee", reason=os.fsdecode(b"caf\xe9")) == 0
    (image,) = zoo.images_kept
    assert (image.source, image.reason) == (r"caf\udce9.png", r"caf\udce9")
    assert zoo.golden("remove", image.id) == 0
    name = os.fsdecode(b"caf\xe9")
    more, options = (
        zoo.picture(f"more/{name}/seen.png", zoo.noise(7)).parents[1],
        zoo.photographs(16, 16, second=name),
    )
    assert main(["golden", "add", "1", str(more), "--reason", "seen", "--", *options]) == 0
    assert [image.class_name for image in zoo.images_kept] == [r"caf\udce9", r"caf\udce9"]


def test_a_pipeline_makes_pixels_and_leaves_a_test_image_alone(zoo):
    options, data = (
        zoo.photographs(20, 30, size=16),
        ModelSettings(data=f"folder:{zoo.root / 'photos'}", size=16),
    )
    images = data.load()
    zoo.picture("large.png", zoo.noise(7, 40, 40))
    assert (
        main(
            [
                "golden",
                "add",
                "1",
                "large.png",
                "--class",
                "bee",
                "--reason",
                "seen",
                "--",
                *options,
            ]
        )
        == 0
    )
    golden = labelled_images(read_checks(zoo.checks), images, data)
    assert torch.equal(golden.pixels[0], images.pixels[1])
    expected = np.asarray(
        Image.fromarray(zoo.noise(7, 40, 40)).resize((16, 16), Image.Resampling.BILINEAR)
    )
    assert np.array_equal(golden.pixels[1, 0].numpy(), expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["400"], "400: there are 400 test images, from 0"),
        (["9" * 5000], "9" * 18 + "…: there are 400 test images, from 0"),
        (["0", "--class", "cow"], "'cow' is none of the classes ant, bee, cat, dog"),
        (["gone.png", "--class", "bee"], "gone.png"),
        (["bee.png"], "name it with --class"),
        (["bee.txt", "--class", "bee"], "expected a number of a test image, or a picture in"),
        (["bad.png", "--class", "bee"], "bad.png: cannot be read as an image"),
        (
            ["wide.png", "--class", "bee"],
            "wide.png: is of 16x20 pixels, the images of the data are 16x16",
        ),
        (["empty"], "no pictures in it"),
        (["0", "0"], "image 0 of zoo: is golden already, image 0 of zoo, ant"),
        (["0", "same.bmp", "--class", "ant"], "same.bmp: is golden already, image 0 of zoo, ant"),
    ],
)
def test_what_cannot_be_golden_is_refused_and_nothing_is_written(zoo, capsys, arguments, said):
    zoo.picture("bee.png", zoo.noise())
    zoo.picture("wide.png", zoo.noise(0, 16, 20))
    zoo.picture("same.bmp", zoo.images.pixels[0, 0].numpy())
    (zoo.root / "bad.png").write_bytes(b"%!PS-Adobe-3.0 (a program, not a picture)")
    (zoo.root / "bee.txt").write_text("bee")
    (zoo.root / "empty").mkdir()
    before = zoo.checks.read_bytes()
    assert zoo.golden("add", *arguments) == 2
    assert said in capsys.readouterr().err
    for reason, why in ((" ", "say why these images matter"), (None, "Missing option '--reason'")):
        assert zoo.golden("add", 0, reason=reason) == 2
        assert why in capsys.readouterr().err
    assert zoo.checks.read_bytes() == before
    assert not zoo.set.exists()


# Predictions of reference models.


def test_an_image_that_healthy_retrains_disagree_on_says_so(zoo, capsys):
    files = [zoo.root / f"seed-{seed}.safetensors" for seed in range(8)]
    correct = np.zeros(len(zoo.images), dtype=int)
    for seed, file in enumerate(files):
        zoo.save(file.name, jitter=1.0, seed=seed)
        correct += Classifier(network(jitter=1.0, seed=seed), workers=1).predict(zoo.images).correct
    models = tuple(
        ReferenceModel(str(file), hashlib.sha256(file.read_bytes()).hexdigest(), 0, {})
        for file in files
    )
    (zoo.root / "panel.json").write_bytes(Panel(zoo.images.sha256, 1, {}, (), models).as_bytes())
    agreed = int(np.flatnonzero(correct == 8)[0])
    contested = int(np.flatnonzero((correct > 0) & (correct < 8))[0])
    assert zoo.golden("add", agreed, contested) == 0
    said, count = capsys.readouterr().out.splitlines()[1:], correct[contested]
    assert said[0].endswith("; 8 of 8 reference models predict it correctly")
    share = f"{1 - count / 8:.0%}"
    assert said[1].endswith(
        f"; {count} of 8 reference models predict it correctly: this check fails about {share} of "
        "reference models"
    )
    assert [image.reference for image in zoo.images_kept] == [(8, 8), (count, 8)]
    assert zoo.golden("list") == 0
    assert f"{count} of 8 reference models predict it correctly" in capsys.readouterr().out
    for seed, file in enumerate(files):
        zoo.save(file.name, jitter=1.0, seed=seed + 1)
    assert zoo.golden("add", min(set(range(3)) - {agreed, contested})) == 0
    said = "how many reference models predict it correctly is not known"
    assert (
        f"{said} ({files[0]} is not the network of the panel panel.json)" in capsys.readouterr().out
    )
    assert zoo.images_kept[-1].reference == ()


# A set that was declared cannot be lost.


def cut_list(zoo, at=str.rindex):
    text = (zoo.set / LIST).read_text()
    (zoo.set / LIST).write_text(text[: at(text, "[[image]]")])


def edit_list(zoo, before="an incident", after="two incidents"):
    (zoo.set / LIST).write_text((zoo.set / LIST).read_text().replace(before, after))


def lose_declaration(zoo):
    text = zoo.checks.read_text()
    zoo.checks.write_text(text[: text.index("[golden]")] + text[text.index("[recipe]") :])


def swap_pictures(zoo):
    first, second = (path.read_bytes() for path in zoo.set.glob("*.png"))
    for path, content in zip(zoo.set.glob("*.png"), (second, first), strict=True):
        path.write_bytes(content)


HARMS = {
    "declares 2 images": lambda zoo: (zoo.set / LIST).unlink(),
    "Restore the folder from version control": lambda zoo: zoo.set.rename(zoo.root / "elsewhere"),
    "is not the list that": cut_list,
    "is beside it, but it declares no golden set": lose_declaration,
    "cannot be read (No such file or directory)": lambda zoo: next(zoo.set.glob("*.png")).unlink(),
    "is damaged": swap_pictures,
}


@pytest.mark.parametrize("said", HARMS)
def test_what_became_of_the_set_is_an_error_and_never_a_pass(zoo, said, capsys):
    zoo.golden("add", 0, 1)
    HARMS[said](zoo)
    with pytest.raises(ChecksError, match="golden") as error:
        zoo.open()
    assert said in str(error.value)
    assert zoo.golden("list") == 2
    assert said in capsys.readouterr().err


def test_a_vanished_set_ends_with_4_and_one_without_its_test_is_partial(zoo):
    zoo.golden("add", zoo.right)
    (zoo.tests / "test_golden.py").write_text("# It replaces the file that ships.\n")
    zoo.run()
    assert zoo.report()["verdict"] == "partial"
    assert "families without a test: golden images" in zoo.report()["omissions"][0]
    zoo.set.rename(zoo.root / "elsewhere")
    assert zoo.run().ret == 4
    assert zoo.report()["verdict"] == "error"


def test_a_merge_is_declared_when_someone_has_looked_at_it(zoo, capsys):
    zoo.golden("add", 0, 1)
    edit_list(zoo)
    with pytest.raises(ChecksError, match="is not the list"):
        read_checks(zoo.checks)
    assert zoo.golden("list", "--declare") == 0
    assert "declared: 2 golden images" in capsys.readouterr().out
    assert [image.reason for image in zoo.images_kept] == ["two incidents"] * 2


@pytest.mark.parametrize("conflict", ["entries", "tables", "both tables", "entries twice"])
def test_two_branches_declarations_are_merged_by_declaring_the_list(zoo, conflict):
    quick = zoo.tests / "checks-quick.toml"
    quick.write_text(zoo.checks.read_text().replace("n = 400\n", "n = 400\nsample = 100\n"))
    zoo.golden("add", 0)
    merged = zoo.checks.read_text()
    table = re.search(r"\[golden\]\n(.*\n.*\n)", merged)
    head, entries = "[golden]\n", table[1]
    made = {
        "entries": f"{head}<<<<<<< HEAD\n{entries}=======\n{entries}>>>>>>> other\n",
        "tables": f"<<<<<<< HEAD\n{head}{entries}=======\n{head}{entries}>>>>>>> other\n",
        "both tables": f"{head}{entries}\n{head}{entries}",
        "entries twice": f"{head}{entries}{entries}",
    }[conflict]
    for path in (zoo.checks, quick):
        path.write_text(path.read_text().replace(table[0], made))
    assert zoo.golden("list") == 2
    assert zoo.golden("list", "--declare") == 0
    assert tomllib.loads(zoo.checks.read_text()) == tomllib.loads(merged)
    assert "# A comment that a person wrote." in zoo.checks.read_text()
    assert len(golden_set(read_checks(quick))) == 1


def test_tables_that_are_indented_stay(zoo):
    zoo.golden("add", 0)
    head, _, rest = zoo.checks.read_text().partition("[golden]")
    entries, rest = rest.split("\n\n", 1)
    indented = "  [recipe.training]\n  epochs = 2\n"
    zoo.checks.write_text(f"{head}{rest}\n[golden]{entries}\n{indented}")
    assert zoo.golden("add", 5) == 0
    assert zoo.checks.read_text().endswith(indented)
    assert len(golden_set(read_checks(zoo.checks))) == 2


@pytest.mark.parametrize("name", ["checks.toml", "checks-quick.toml"])
def test_a_checks_file_with_another_conflict_is_refused(zoo, capsys, name):
    zoo.golden("add", 0)
    path = zoo.tests / name
    path.write_text(f"<<<<<<< HEAD\n{zoo.checks.read_text()}")
    before = {file: file.read_bytes() for file in zoo.tests.rglob("*") if file.is_file()}
    assert zoo.golden("list", "--declare") == 2
    assert f"{name}: not valid TOML with its table [golden]" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in zoo.tests.rglob("*") if file.is_file()} == before


def test_all_checks_files_beside_the_set_declare_it_and_keep_all_else(zoo):
    quick = zoo.tests / "checks-quick.toml"
    quick.write_text(zoo.checks.read_text().replace("n = 400\n", "n = 400\nsample = 100\n"))
    before = zoo.checks.read_text()
    zoo.golden("add", 0)
    tables = [tomllib.loads(path.read_text())["golden"] for path in (zoo.checks, quick)]
    assert tables[0] == tables[1]
    assert tables[0]["n"] == 1
    assert "# A comment that a person wrote." in zoo.checks.read_text()
    first = zoo.checks.read_text()
    assert zoo.golden("add", 1) == 0
    table = re.compile(r"\[golden\]\nsha256 = .*\nn = \d\n")
    assert table.sub("", zoo.checks.read_text()) == table.sub("", first), (
        "also the comment on what follows it"
    )
    zoo.golden("remove", zoo.ids[0])
    zoo.golden("remove", *zoo.ids)
    assert zoo.checks.read_text() == before


def test_comments_of_a_declaration_stay(zoo):
    zoo.golden("add", 0)
    before = zoo.checks.read_text()
    zoo.checks.write_text(before.replace("[golden]\n", "[golden]\n# Ask Ann first.\n"))
    assert zoo.golden("add", 1) == 0
    assert "# Ask Ann first.\n" in zoo.checks.read_text()
    zoo.checks.write_text(before.replace("[golden]", "[ golden ]"))
    assert zoo.golden("list") == 2


def test_a_link_to_the_checks_file_stays_one_and_both_declare_the_set(zoo):
    link, quick = zoo.tests / "current.toml", zoo.tests / "checks-quick.toml"
    quick.write_text(zoo.checks.read_text().replace("n = 400\n", "n = 400\nsample = 100\n"))
    link.symlink_to("checks.toml")
    for number in (0, 1):
        assert zoo.golden("add", number, "--checks", link) == 0
    assert link.is_symlink()
    for path in (link, zoo.checks, quick):
        assert len(golden_set(read_checks(path))) == 2
    assert zoo.golden("add", 2) == 0
    assert link.is_symlink()


# Files of the folder.


def test_only_pictures_of_images_that_are_removed_are_deleted(zoo, capsys):
    zoo.golden("add", 0, 1, 2)
    notes, (first, second, _) = zoo.set / "golden-notes.md", zoo.ids
    notes.write_text("Ask Ann.")
    assert zoo.golden("remove", first) == 0
    assert {path.name for path in zoo.set.glob("golden-*")} == {
        notes.name,
        *(f"{name}.png" for name in zoo.ids),
    }
    cut_list(zoo)
    capsys.readouterr()
    assert zoo.golden("list", "--declare") == 0
    assert zoo.ids == [second]
    (lost,) = (path.name for path in zoo.set.glob("*.png") if path.stem != second)
    assert f"not on the list, and left where they are: {lost}\n" in capsys.readouterr().out
    assert notes.exists()


def test_an_empty_list_is_not_declared(zoo, capsys):
    zoo.golden("add", 0)
    cut_list(zoo, at=str.index)
    before = zoo.checks.read_bytes()
    assert zoo.golden("list", "--declare") == 2
    assert "names no image; restore it from version control" in capsys.readouterr().err
    assert zoo.checks.read_bytes() == before
    assert len(list(zoo.set.iterdir())) == 2


def lose_its_picture(zoo):
    (zoo.set / zoo.images_kept[0].file).unlink()
    edit_list(zoo)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda zoo: edit_list(zoo, '"ant"', '"cow"'), "its class 'cow' is none of the classes"),
        (lose_its_picture, "cannot be read"),
    ],
)
def test_an_unusable_image_is_named_when_declared_and_can_be_removed(zoo, capsys, harm, said):
    zoo.golden("add", 0, 1)
    name = zoo.ids[0]
    harm(zoo)
    for arguments in (("list", "--declare"), ("add", 2)):
        assert zoo.golden(*arguments) == 2
        told = capsys.readouterr().err
        assert said in told
        assert f"`stress-harness golden remove {name}`" in told
    assert zoo.golden("remove", name) == 0
    assert zoo.golden("add", 0) == 0
    assert zoo.golden("list", "--declare") == 0


def test_two_that_add_at_once_both_have_what_they_added(zoo):
    threads = [threading.Thread(target=zoo.golden, args=("add", number)) for number in (3, 4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sources = {image.source for image in zoo.images_kept}
    assert sources == {f"image {number} of zoo" for number in (3, 4, 5)}
    assert len(zoo.open().other_images.of_rows["golden"]) == 3


def test_an_id_that_there_is_not_removes_nothing(zoo, capsys):
    zoo.golden("add", 0)
    assert zoo.golden("remove", *zoo.ids, "golden-00000000") == 2
    assert "golden-00000000: no golden image" in capsys.readouterr().err
    assert len(zoo.ids) == 1


def test_a_row_of_the_checks_file_is_no_golden_image(zoo):
    zoo.checks.write_text(
        zoo.checks.read_text() + '\n[[check]]\nid = "g"\nfamily = "golden"\nmetric = "accuracy"\n'
    )
    with pytest.raises(ChecksError, match="are made of the table"):
        read_checks(zoo.checks)
