"""An export holds the images that checks ask about, each once, and is whole, resumable, and alone in its folder."""

import itertools
import json
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from zoo import ROWS, asked_to_record

from harness.base.errors import InputError
from harness.data.exported import Export, as_stored, hash_of_names, names_of
from harness.data.images import unit_range
from harness.perturb import Pose
from harness.run.export import write
from harness.run.export.request import ExportOrder

SEARCH = """
[[check]]
id = "drawn"
family = "search"
metric = "accuracy"
within = { degrees = 10, dx = 2, dy = 2 }

[[check]]
id = "unchanged"
family = "search"
metric = "unchanged_share"
within = { degrees = 10, dx = 2, dy = 2 }

[[check]]
id = "robust"
family = "search"
metric = "robust_accuracy"
grid = "augmentation-range"
"""
TESTS = ("clean", "rotation", "confident_errors", "drawn_pose", "worst_pose")
COUNT = itertools.count()


@pytest.fixture
def export(shared):
    """Return what exports the images of the repository in this process, and reads them again."""

    def run(*options, folder="inputs", anew=True, rows=ROWS, files=None, **order):
        place = shared.root / folder
        if anew:
            shutil.rmtree(place, ignore_errors=True)
        with asked_to_record(None, export=ExportOrder(str(place), **order)):
            again = {"note": f"{order} {next(COUNT)}", **(files or {})}
            ran = shared.once("--stress-plan", "-s", *options, rows=rows, files=again)
        return SimpleNamespace(status=ran.ret, said=ran.stdout.str(), folder=place)

    return run


def rows(folder):
    """Return the names, pixels, places and perturbations of all shards of an export as npz."""
    shards = [np.load(path) for path in sorted(folder.glob("shard-*.npz"))]
    return [np.concatenate([shard[name] for shard in shards]) for name in ("image", "pixels", "index", "perturbation")]


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_it_holds_each_image_under_each_perturbation_once(shared, export):
    done = export()
    assert done.status == 0
    names, pixels, index, perturbation = rows(done.folder)
    said = manifest(done.folder)
    assert len(names) == len(set(names)) == said["images"] == 800
    assert names.dtype.kind == "U", "text stays itself in a table of answers"
    assert np.array_equal(names_of(pixels).astype(str), names)
    views = [each["perturbation"] for each in said["perturbations"]]
    assert views == [str(Pose()), str(Pose(10.0))]
    assert said["perturbations"][1]["checks"]["rotate-ccw-010"] == 400
    for number, pose in enumerate((Pose(), Pose(10))):
        of_it = perturbation == number
        expected = pose(unit_range(shared.images.pixels[index[of_it]])).numpy()
        assert np.array_equal(pixels[of_it], expected)
    export_line = Export.read(said["export"])
    assert (export_line.images, export_line.names) == (800, hash_of_names(names))
    assert export_line.data == shared.images.sha256


def test_png_holds_the_same_images_rounded_to_8_bits(shared, export):
    done = export(format="png")
    assert done.status == 0
    with zipfile.ZipFile(done.folder / "shard-00000.zip") as shard:
        table = [line.split(",") for line in shard.read("rows.csv").decode().splitlines()[1:]]
        name, index, _ = next(row for row in table if row[2] == "1")
        with shard.open(f"{name}.png") as file:
            pixels = np.array(Image.open(file))
    turned = Pose(10)(unit_range(shared.images.pixels[int(index)][None])).numpy()
    assert np.array_equal(pixels[None, ..., None], as_stored(turned, "uint8"))
    assert Export.read(manifest(done.folder)["export"]).pixels == "uint8"


def test_an_interrupted_export_resumes(export, monkeypatch):
    monkeypatch.setattr(write, "SHARD_BYTES", 100 * 16 * 16 * 4)
    done = export()
    whole = {path.name: path.read_bytes() for path in done.folder.iterdir()}
    assert sum(name.startswith("shard") for name in whole) == 8
    (done.folder / "manifest.json").unlink()
    (done.folder / "shard-00003.npz").unlink()
    (done.folder / "shard-00005.npz").write_bytes(whole["shard-00005.npz"][:-500])
    (done.folder / "answers.npz").write_bytes(b"a user's")
    kept = (done.folder / "shard-00000.npz").stat().st_mtime_ns
    again = export(anew=False)
    assert "6 of them from an earlier run" in again.said
    assert {path.name: path.read_bytes() for path in done.folder.iterdir()} == whole | {"answers.npz": b"a user's"}
    assert (done.folder / "shard-00000.npz").stat().st_mtime_ns == kept


def test_a_shard_with_other_pixels_is_written_again(export):
    done = export()
    path = done.folder / "shard-00000.npz"
    content = path.read_bytes()
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, "pixels": arrays["pixels"] * np.float32(0.5)})
    assert export(anew=False).status == 0
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["notes.txt", "shard-00000.npz"])
def test_a_folder_with_other_files_is_left_alone(shared, export, name):
    shutil.rmtree(shared.root / "inputs", ignore_errors=True)
    (shared.root / "inputs").mkdir()
    (shared.root / "inputs" / name).write_text("mine")
    done = export(anew=False)
    assert done.status == 4
    assert "has other files in it" in done.said
    assert [path.read_text() for path in done.folder.iterdir()] == ["mine"]


def test_another_export_is_not_overwritten(shared, export):
    export()
    before = {path.name: path.read_bytes() for path in (shared.root / "inputs").iterdir()}
    done = export(anew=False, format="png")
    assert (done.status, "holds another export" in done.said) == (4, True)
    assert {path.name: path.read_bytes() for path in done.folder.iterdir()} == before


def test_the_size_is_told_first_and_no_disk_is_filled(export, monkeypatch):
    monkeypatch.setattr(write.shutil, "disk_usage", lambda _: SimpleNamespace(free=write.MARGIN + 1_000))
    done = export()
    assert done.status == 4
    assert "800 images of 1x16x16 under 2 perturbations: at most 1.0 MB" in done.said
    assert "0.3 GB are free. Name a folder on another disk" in done.said
    assert not done.folder.exists()


def test_families_named_are_exported_alone_and_a_budget_leaves_samples(export):
    done = export(families=("clean",))
    assert manifest(done.folder)["images"] == 400
    assert Export.read(manifest(done.folder)["export"]).families == ("clean",)
    refused = export(families=("clean", "nope"))
    assert (refused.status, "--families nope: no check is of this family" in refused.said) == (4, True)
    done = export("--stress-budget", "4s")
    line = Export.read(manifest(done.folder)["export"])
    assert done.status == 0
    assert line.samples["rotation"] < 400
    assert line.images < 800 * 0.6


def test_a_grid_is_exported_whole_and_poses_that_hypothesis_draws_are_not(export):
    done = export(rows="\n[data.samples]\nsearch = 100\n" + ROWS + SEARCH)
    assert manifest(done.folder)["images"] == 300 * 2 + 100 * 225
    assert "failed without a model" not in done.said


def test_a_test_that_fails_without_a_model_is_named(export):
    code = (
        "from harness.plugin import check\n\n\n@check('rotation')\n"
        "def test_it(candidate, stress_check):\n    candidate.nothing()\n"
    )
    said = export(files={"stress_tests/test_rotation.py": code}).said
    assert "rotate-ccw-010: its test failed without a model" in said


def test_the_line_of_an_export_is_read_again():
    line = Export(1, "float32", "d", ("a", "e"), "s", families=("b", "c"), samples={"b": 3}).holding(
        np.array([b"x"], dtype="S64")
    )
    assert Export.read(str(line)) == line


@pytest.mark.parametrize("text", ["", "protocol=1", "x y z", "{}", "a=b " * 5_000])
def test_another_line_is_refused(text):
    with pytest.raises(InputError, match="expected the line `export` of the manifest"):
        Export.read(text)


@pytest.mark.processes
def test_the_command_exports_and_says_how_to_go_on(zoo, monkeypatch, capsys):
    from harness.cli import main

    monkeypatch.chdir(zoo.root)
    zoo.bind(f'{ROWS}\n[gate]\ndata = "npz:zoo.npz"\n')
    assert main(["export-inputs", "inputs"]) == 0
    assert "stress-harness gate --candidate predictions:answers.npz" in capsys.readouterr().out
    assert main(["export-inputs", "inputs", "--families", "nope"]) == 2
    assert "no check is of this family" in capsys.readouterr().err
    shutil.rmtree(zoo.root / "inputs")
