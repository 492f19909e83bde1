"""The documentation.

It builds without a warning, its links resolve, and what it says to type works.

Commands and the build take minutes: `pytest tests -m docs` runs them; the build needs the extra
`docs`. A page's blocks run from top to bottom, with bash, in a folder that stands for what the page
is about; see `checkout` and `shop`.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from outcomes import EMPTY
from PIL import Image
from zoo import CLASSES, images_of, network

from harness.calibration.calibrate import by_hand
from harness.calibration.panel import read_panel
from harness.calibration.thresholds import thresholds_of
from harness.checks import Check, read_checks
from harness.checks.edits import with_thresholds
from harness.measures import Measurement
from harness.measures.accuracy import ACCURACY
from harness.run.stress_json import stress_json

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(DOCS)): path.read_text("utf-8") for path in sorted(DOCS.glob("**/*.md"))
}
MARKED = {"sh", "python", "toml", "ini"}
REFERENCE_MODELS = 3
PROGRAMS = (
    r"# |(\w+=\S+ "
    r")?(\.venv/bin/)?(stress-harness|python3?|pytest|pip|ruff|apt-get|npm|docker|git|curl|tar|unzip"
    r"|mkdir|cd|cp|rm|cat|head|grep|export|for|done)\b"
)
"""Beginning of a line of a `sh` block: a program, or a comment. Add a program that a page needs."""
PROJECT_PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
LONGEST_README = 120
"""Lines: the first page is one page."""
LONGEST_ARCHITECTURE = 1_650
"""Words."""
LARGEST_PICTURE = 40_000
LARGEST_SHEET = 60_000
"""Bytes of a picture, and of that of all corruptions, which grows with each."""
SMALLER = (
    # The commands of the page, on fewer images.
    (r"(stress-harness (?:evaluate|compare) [^\n#]*)", r"\1 --samples 20 "),
)
TINY_NETWORK = (
    # A network that is built as quickly as it predicts, in place of the ResNet, with pictures and
    # classes of its own.
    (r"torchvision\.models:resnet18", "small:Small"),
    (r"--size 224", "--size 16"),
    (r"num_classes=7", "num_classes=4"),
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    `mark` is the comment before it, which tells a test how to treat it.
    """

    line: int
    language: str
    mark: str
    text: str


def blocks_of(page: str) -> list[Block]:
    found, lines = [], PAGES[page].splitlines()
    start = None
    for number, line in enumerate(lines):
        if start is None and line.startswith("```"):
            start = number
        elif start is not None and line == "```":
            before = re.fullmatch(r"<!-- (.*) -->", lines[start - 1]) if start else None
            text = "\n".join(lines[start + 1 : number]) + "\n"
            found.append(
                Block(
                    start + 1, lines[start].removeprefix("```"), before[1] if before else "", text
                )
            )
            start = None
    assert start is None, f"{page}: the block that begins in line {start} does not end"
    return found


def stands_in(page: str) -> str:
    """Return the name of the folder that a page's commands run in, "" without commands."""
    names = {
        block.mark.removeprefix("run: ")
        for block in blocks_of(page)
        if block.mark.startswith("run: ")
    }
    assert len(names) <= 1, f"{page}: its commands run in {names}, expected one place"
    return names.pop() if names else ""


WITH_COMMANDS = [page for page in PAGES if stands_in(page)]


# Names and links.


@pytest.mark.lint
@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_a_test_does_with_it(page):
    known = r"run: (checkout|shop)|not run: \S.*|(file|append): \S+|insert: \S+ before .*\S"
    for block in blocks_of(page):
        if block.language in MARKED:
            assert re.fullmatch(known, block.mark), (
                f"docs/{page}:{block.line}: marked {block.mark!r}, expected {known}"
            )


def misplaced_commands(page: str) -> list[str]:
    """Return lines of `sh` blocks that begin inside a command, and comments with a command.

    Lines inside a comment count, too.
    """
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    blocks = [
        re.sub(r"<<ROW\n.*?^ROW$", "", block, flags=re.MULTILINE | re.DOTALL) for block in blocks
    ]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [
        line
        for line in lines
        if not re.match(PROGRAMS, line) or re.search(r"#.*\bpython -m\b", line)
    ]


@pytest.mark.lint
def test_each_line_of_commands_begins_with_a_program():
    rooms = ("docs", "benchmarks", "examples", "models")
    pages = [
        *ROOT.glob("*.md"),
        *(page for room in rooms for page in (ROOT / room).glob("**/*.md")),
    ]
    found = {
        str(page.relative_to(ROOT)): misplaced_commands(page.read_text("utf-8")) for page in pages
    }
    assert not {page: lines for page, lines in found.items() if lines}


@pytest.mark.lint
def test_joined_and_broken_commands_are_seen():
    joined = (
        "python -m this    # prints the rules, in python -m\nthis --again     # prints them again"
    )
    broken = "pytest -x          # stops at the first failure of the\ntests of the gate"
    assert misplaced_commands(f"```sh\n{joined}\n{broken}\n```\n") == [
        *joined.splitlines(),
        "tests of the gate",
    ]


@pytest.mark.lint
def test_commands_are_there():
    assert {"index.md", "own-model.md", "add-corruption.md", "add-check.md", "add-role.md"} <= set(
        WITH_COMMANDS
    )


@pytest.mark.lint
def test_the_readme_is_one_page_and_has_the_commands_of_ci():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= LONGEST_README
    for name, last in (("gate", "pytest stress_tests"), ("tests", "pytest tests -n 2")):
        (command,) = re.findall(rf"<!-- ci: {name} -->\n```sh\n(.*)\n```\n", text)
        assert command.endswith(f"&& .venv/bin/{last}")


@pytest.mark.lint
def test_every_page_is_in_the_contents():
    trees = "\n".join(
        re.findall(r"```\{toctree\}\n(.*?)```", PAGES["index.md"], re.DOTALL)
    ).splitlines()
    listed = {path for pattern in trees if pattern for path in DOCS.glob(f"{pattern}.md")}
    assert listed == {DOCS / page for page in PAGES if page != "index.md"}


@pytest.mark.lint
def test_the_architecture_is_short_and_its_map_has_every_room():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    assert len(text.split()) <= LONGEST_ARCHITECTURE
    rooms = re.findall(r"^  (\w+)/? +\S", text.split("```")[1], re.MULTILINE)
    here = {path.stem for path in (ROOT / "harness").iterdir() if path.suffix in {"", ".py"}}
    assert set(rooms) == {name for name in here if not name.startswith("__")}


@pytest.mark.lint
def test_every_library_says_why_it_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    table = PAGES["dependencies.md"].partition("## Written by hand")[0]
    cells = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)[2:]
    justified = {name for cell in cells for name in re.sub(r" \(.*\)", "", cell).split(", ")}
    assert justified == {re.split(r"[>=]", one)[0] for one in wanted}


@pytest.mark.lint
def test_parts_of_pages_are_those_of_the_code():
    from docs.from_the_code import filled, stale

    assert not [str(path) for path in stale()], "write them anew: python -m docs.from_the_code"
    assert "`--stress-samples N`" in PAGES["reference/options.md"]
    assert "breaking_severity" in PAGES["reference/measures.md"]
    assert "- `along(model: RoleModel, images: LabelledImages, " in PAGES["reference/python.md"]
    part = "<!-- from: harness.plugin.check -->\n{}<!-- end -->"
    assert filled(part.format("Old.\n")) == filled(part.format("")) != part.format("")


@pytest.mark.lint
@pytest.mark.parametrize("page", [*PAGES, *(f"../{page}" for page in PROJECT_PAGES)])
def test_links_lead_to_files(page):
    text = re.sub(r"```.*?```", "", (DOCS / page).read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert ((DOCS / page).parent / target).exists(), f"{page}: {target}"


@pytest.mark.lint
def test_every_family_has_a_page_and_every_page_its_stress_test():
    described: set[str] = set()
    for page, text in PAGES.items():
        if page.startswith("behaviours/"):
            head = text.split("**What.**")[0]
            named = re.search(r"^Famil(?:y|ies) ((?:`[a-z_]+`(?: and )?)+)", head, re.MULTILINE)
            assert named, f"{page}: its third line names no family"
            described |= set(re.findall(r"`([a-z_]+)`", named[1]))
            assert "/test_" in head, f"{page} names no stress test"
    families = {check.family for check in read_checks(ROOT / "stress_tests/checks.toml").checks}
    assert described == families | {"golden", "unknown", "skew"}, (
        "the rows of these need more than the shipped images"
    )
    linked = set(re.findall(r"stress_tests/(test_\w+\.py)", "\n".join(PAGES.values())))
    assert linked >= {path.name for path in (ROOT / "stress_tests").glob("test_*.py")}


@pytest.mark.lint
@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("behaviours/")])
def test_each_behaviour_has_its_picture_and_says_what_to_do(page):
    parts = re.findall(r"^\*\*(.*?)\*\*", PAGES[page], re.MULTILINE)
    assert parts == ["What.", "Why.", "A failure", "What to do."]
    ((alt, picture),) = re.findall(r"!\[(.*?)\]\((.*?)\)", PAGES[page])
    assert len(alt) > 20
    largest = LARGEST_SHEET if page == "behaviours/corruption.md" else LARGEST_PICTURE
    assert 0 < (DOCS / page).parent.joinpath(picture).stat().st_size <= largest


NOT_SHIPPED = (
    Check("golden-b8732f09", "golden", "golden_right"),
    Check("skew-video-range-lost", "skew", "served_correct_predictions_lost"),
    Check("slice-33e776ffc9b0", "slices", "slice_loss"),
    Check("unknown-upside-down-energy-auroc", "unknown", "unknown_auroc"),
)
"""Checks that the pages show, of families that the shipped checks file has no row of."""


@pytest.mark.lint
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.startswith("behaviours/") or page == "reading.md"]
)
def test_failures_shown_are_of_rows_that_there_are(page):
    rows = {check.id: check for check in read_checks(ROOT / "stress_tests/checks.toml").checks}
    rows |= {each.id: each for each in NOT_SHIPPED}
    shown = next(block.text for block in blocks_of(page) if block.language == "text")
    name, metric = re.match(r"([a-z0-9.-]+): ([a-z ]+?) -?[\d.]+ [<>] threshold ", shown).groups()
    assert metric == rows[name].metric.replace("_", " ")
    if page.startswith("behaviours/"):
        assert f"`{rows[name].family}`" in PAGES[page]


@pytest.mark.lint
def test_the_fields_of_stress_json_are_those_described():
    first_cells = re.findall(r"^\| (`.*?) \|", PAGES["exit-status.md"], re.MULTILINE)
    described = set(re.findall(r"`(\w+)`", "".join(first_cells)))
    check = (
        Check("clean", "clean", "accuracy")
        .judge(Measurement(ACCURACY, 0.9, 10, (0.8, 1.0), counted=5))
        .as_json()
    )
    assert described == {*stress_json(EMPTY), *check, "flips", "code", "curve"}


# Commands of the pages.


@dataclass(frozen=True)
class Place:
    """A folder in which commands run, their replacements, and their environment."""

    folder: Path
    shorter: tuple[tuple[str, str], ...]
    environment: dict[str, str]

    def shortened(self, text: str) -> str:
        """Return commands that do less of the same."""
        for pattern, replacement in self.shorter:
            text = re.sub(pattern, replacement, text)
        return text

    def follow(self, page: str) -> None:
        """Do what a page says, from top to bottom."""
        for block in blocks_of(page):
            text = self.shortened(block.text)
            match block.mark.split(maxsplit=1):
                case ["run:", _]:
                    self.run(text, f"docs/{page}:{block.line}")
                case ["file:" | "append:" as how, name]:
                    path = self.folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    assert path.exists() == (how == "append:"), f"docs/{page}:{block.line}: {path}"
                    path.write_text(
                        (path.read_text("utf-8") if how == "append:" else "") + text, "utf-8"
                    )
                case ["insert:", where]:
                    name, line = where.split(" before ")
                    before, after = (self.folder / name).read_text("utf-8").split(f"\n{line}\n")
                    (self.folder / name).write_text(f"{before}\n{text}{line}\n{after}", "utf-8")

    def run(self, commands: str, where: str) -> None:
        """Run commands with bash; the first that fails ends them."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=1_500,
        )
        assert done.returncode == 0, (
            f"{where}: exit status {done.returncode}\n{commands}\n{done.stdout}\n{done.stderr}"
        )

    def report(self) -> dict:
        """Return what the last run of the gate wrote."""
        return json.loads((self.folder / "reports/stress.json").read_bytes())


def place(folder: Path, package: Path, shorter, *, options: str = "") -> Place:
    """Return a place with these `python` and `pytest`, and a `pip` that only records.

    It installs nothing.
    """
    stubs = folder.parent / "bin"
    stubs.mkdir(exist_ok=True)
    for name, command in (
        ("python", f'exec "{sys.executable}" "$@"'),
        ("pytest", f'exec "{sys.executable}" -m pytest "$@"'),
        # Runs measure few images, so their verdict is partial.
        (
            "stress-harness",
            f'[ "$1" != gate ] || set -- "$@" --allow-partial; exec "{sys.executable}" -m '
            'harness "$@"',
        ),
        ("pip", f'echo "$@" >> "{stubs}/pip.log"'),
    ):
        (stubs / name).write_text(f"#!/bin/sh\n{command}\n")
        (stubs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{stubs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{package}{os.pathsep}{folder}",
        "PYTEST_ADDOPTS": f"-p no:cacheprovider {options}",
        "XDG_CACHE_HOME": str(folder.parent / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    return Place(folder, shorter, environment)


def small_panel(folder: Path) -> list[str]:
    """Give a checkout a panel of few models, with the thresholds that follow from it.

    Return their paths.
    """
    checks = read_checks(folder / "stress_tests/checks.toml")
    panel = read_panel(ROOT / "models/panel.json", checks)
    panel = replace(panel, models=panel.models[:REFERENCE_MODELS])
    calibrated = thresholds_of(panel, by_hand=by_hand(checks, panel))
    text = with_thresholds(
        checks.path.read_text("utf-8"), calibrated, recipe=checks.recipe, date="2026-01-01"
    )
    checks.path.write_text(text, "utf-8")
    (folder / "models/panel.json").write_bytes(panel.as_bytes())
    return [str(model.path) for model in panel.models]


def copied_checkout(folder: Path) -> Place:
    """Return a checkout.

    The gate measures few images, the panel is small, and one more reference model is ready.
    """
    for name in ("harness", "stress_tests", "models", "tests", "docs"):
        skipped = shutil.ignore_patterns(
            "__pycache__", *(("panel", "panel.json") if name == "models" else ())
        )
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    for name in ("conftest.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    for name in [*small_panel(folder), "models/panel/seed-020.safetensors"]:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "runs").mkdir()
    (folder / "models/panel/seed-020.safetensors").rename(folder / "runs/new.safetensors")
    return place(folder, folder, SMALLER, options="--stress-samples 100")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Place:
    """A checkout for commands that change nothing in it."""
    return copied_checkout(tmp_path_factory.mktemp("docs") / "checkout")


NETWORK = '''
"""A network that is small, and expects what a ResNet of torchvision does."""

from torch import nn
from torch.nn import functional


class Small(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.fc(functional.max_pool2d(self.conv(x), 2).flatten(1))
'''
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture
def shop(tmp_path) -> Place:
    """Someone's own repository, beside a checkout.

    Photographs in folders, and weights of a network.
    """
    folder = tmp_path / "shop"
    (folder / "runs").mkdir(parents=True)
    (tmp_path / "stress-harness").symlink_to(ROOT)
    (folder / "small.py").write_text(NETWORK)
    images = images_of()
    for position, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        path = folder / "photos/test" / CLASSES[label] / f"{position:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).convert("RGB").save(path)
    for name, seed in {
        "new": 20,
        **{f"seed-{seed}": seed for seed in range(1, REFERENCE_MODELS + 1)},
    }.items():
        save_small(folder / f"runs/{name}.pth", seed)
    return place(folder, ROOT, TINY_NETWORK)


def save_small(path: Path, seed: int) -> None:
    """Save weights for `Small` that undo the normalization.

    They see the pixels of the zoo's network.
    """
    mean, std = map(torch.tensor, IMAGENET)
    head = network(jitter=0.02, seed=seed).fc1
    weights = {"conv.weight": (std / 3).view(1, 3, 1, 1), "conv.bias": mean.mean().view(1)}
    torch.save({**weights, "fc.weight": head.weight.detach(), "fc.bias": head.bias.detach()}, path)


@pytest.mark.docs
def test_a_gate_for_ones_own_model_and_one_gate_more(shop):
    shop.follow("own-model.md")
    assert (shop.folder.parent / "bin/pip.log").read_text() == "install ../stress-harness\n"
    report = shop.report()
    assert report["verdict"] == "pass"
    families = {check["family"] for check in report["checks"] if check["provenance"] == "panel"}
    # How much a turn costs these networks varies, for all that three can tell, by more than their
    # 400 images allow for.
    assert "confidence" in families
    assert (shop.folder / "models/incumbent.safetensors").exists()

    shop.follow("add-check.md")
    (dim,) = (check for check in shop.report()["checks"] if check["family"] == "dim")
    # Three reference models of a network this small may differ too much for a threshold; what they
    # reach is there.
    assert (dim["id"], dim["status"] in {"pass", "informational"}) == ("dim-030", True)
    assert 0 < dim["reference_mean"] < 1


@pytest.mark.docs
def test_a_corruption_with_its_gate_and_its_picture(tmp_path):
    checkout = copied_checkout(tmp_path / "checkout")
    before = (checkout.folder / "docs/corruptions.webp").read_bytes()
    checkout.follow("add-corruption.md")
    checks = {
        check["id"]: check
        for check in checkout.report()["checks"]
        if check["family"] == "corruption"
    }
    assert set(checks) == {f"corrupt-vignette-{what}" for what in (1, 2, 3, 4, 5, "confidence")}
    assert {check["status"] for check in checks.values()} <= {"pass", "informational"}
    # Not by `read_checks`, which knows the corruptions of this checkout alone.
    rows = tomllib.loads((checkout.folder / "stress_tests/checks.toml").read_text("utf-8"))["check"]
    assert {
        row["id"]
        for row in rows
        if row.get("panel", {}).get("reference_models") == REFERENCE_MODELS
    } >= set(checks)
    assert (checkout.folder / "docs/corruptions.webp").read_bytes() != before


@pytest.mark.docs
@pytest.mark.parametrize("page", ["add-data-source.md", "add-role.md", "add-predictor.md"])
def test_an_extension_is_added_as_its_page_says(page, tmp_path):
    """The section of its page stands in tests/report/test_page.py."""
    copied_checkout(tmp_path / "checkout").follow(page)


OTHERS = [
    page for page in WITH_COMMANDS if stands_in(page) == "checkout" and not page.startswith("add-")
]
STARTED = {
    page: "".join(block.text for block in blocks_of(page) if block.mark.startswith("run: "))
    for page in OTHERS
}
"""The commands of pages that change nothing, by page."""
TOGETHER = [
    page
    for page in OTHERS
    if re.fullmatch(r"((stress-harness|pytest \S+/test_) ?.*\n)+", STARTED[page])
]
APART = [page for page in OTHERS if page not in TOGETHER and page != "index.md"]
ONE_PROCESS = """
import shlex, sys
from harness.cli import main
failing = [line for line in sys.argv[1:] if main(shlex.split(line, comments=True)[1:]) != 0]
sys.exit("\\n".join(failing) or 0)
"""
"""Runs commands of the harness, and prints those that fail."""


@pytest.mark.lint
def test_the_first_page_has_the_commands_of_the_readme():
    """CI runs these in a clean checkout."""
    (gate,) = re.findall(
        r"<!-- ci: gate -->\n```sh\n(.*)\n```\n", (ROOT / "README.md").read_text("utf-8")
    )
    for line in STARTED["index.md"].splitlines():
        assert f".venv/bin/{line}".replace("install ", "install --quiet ") in gate.split(" && ")


@pytest.mark.docs
def test_commands_that_need_no_order_run(checkout):
    """In two processes, since most of the time of one is its start."""
    assert {"commands.md", "behaviours/clean.md", "behaviours/flip.md"} <= set(TOGETHER)
    lines = [line for page in TOGETHER for line in checkout.shortened(STARTED[page]).splitlines()]
    of_tests = [
        re.fullmatch(r"pytest (.*?)( -k \w+)? --candidate runs/new\.safetensors", line)
        for line in lines
    ]
    files = sorted({file for found in of_tests if found for file in found[1].split()})
    assert len(files) >= len([found for found in of_tests if found]) > 8
    checkout.run(f"pytest {' '.join(files)} --candidate runs/new.safetensors", "docs")
    others = [line for line, found in zip(lines, of_tests, strict=True) if not found]
    assert all(line.startswith("stress-harness ") for line in others)
    checkout.run(shlex.join(["python", "-c", ONE_PROCESS, *others]), "docs")


@pytest.mark.docs
@pytest.mark.parametrize("page", APART)
def test_commands_of_a_page_run(page, checkout):
    checkout.follow(page)


# The build.


@pytest.mark.docs
def test_it_builds_without_a_warning_and_needs_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("furo", reason="no furo: pip install '.[docs]'")
    pytest.importorskip("myst_parser", reason="no myst_parser: pip install '.[docs]'")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--fail-on-warning",
        "--keep-going",
        "-q",
        DOCS,
        tmp_path / "site",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    site = {
        str(path.relative_to(tmp_path / "site")): path.read_text("utf-8")
        for path in tmp_path.glob("site/**/*.html")
    }
    assert {page.replace(".md", ".html") for page in PAGES} <= set(site)
    for name, content in site.items():
        fetched = re.findall(
            r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(https?://[^\"]*)", content
        )
        assert not fetched, name
    assert "rotate-ccw-010" in site["behaviours/rotation.html"]
    assert "--stress-samples" in site["reference/options.html"]
    assert "breaking_severity" in site["reference/measures.html"]


@pytest.mark.lint
def test_the_gallery_has_the_recorded_runs():
    from docs.broken_models import BROKEN, LARGEST, PAGE, PICTURES, RECORD, page_of

    record = json.loads(RECORD.read_text("utf-8"))
    assert set(record) == set(BROKEN)
    assert PAGE.read_text("utf-8") == page_of(record), "run: python -m docs.broken_models --page"
    sizes = {path.name: path.stat().st_size for path in PICTURES.iterdir()}
    assert set(sizes) == {f"{name}-{at}.webp" for name in BROKEN for at in (1, 2)}
    assert max(sizes.values()) <= LARGEST


@pytest.mark.docs
def test_the_pictures_are_made_by_their_script(tmp_path, monkeypatch):
    monkeypatch.setenv(
        "OMP_NUM_THREADS", "1"
    )  # More wait for each other beside other tests, and keep cores busy.
    command = [
        sys.executable,
        "docs/pictures.py",
        "--samples",
        "100",
        "--to",
        tmp_path / "pictures",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    made = {path.name: path.stat().st_size for path in tmp_path.glob("pictures/*")}
    assert set(made) == {path.name for path in DOCS.glob("pictures/*")}
    assert max(made.values()) <= LARGEST_PICTURE
