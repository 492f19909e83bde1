"""The report in a real browser.

It opens quickly and without errors, filters, enlarges, fits a phone, runs no script.

Run by `pytest tests -m browser`; needs Chromium, and Playwright to drive it.
"""

import csv
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from overviews import model, overview
from zoo import ARGUMENTS, STRESS_TESTS, Zoo, checks_text, images_of, network

from harness.data import load_images
from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint
from harness.report.html import comparison_page

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
FLAGS = [
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
    ),
    *("--disable-background-networking", "--disable-component-update"),
]
EVIL = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"


def check(folder: Path, *arguments: str, cwd: Path = ROOT) -> Path:
    """Run the gate and return its page.

    Whether the model passes is not what these tests are about.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--stress-reports",
        str(folder),
    ]
    run = subprocess.run(
        [*command, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert run.returncode in {0, 1}, run.stdout + run.stderr
    return folder / "stress.html"


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Return what makes a page in a folder of a name, once for all processes of these tests."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def made(name: str, make) -> Path:
        folder = root / name
        with FileLock(f"{folder}.lock"):
            if not (folder / "stress.html").exists():
                folder.mkdir(exist_ok=True)
                make(folder)
        return folder / "stress.html"

    return made


@pytest.fixture(scope="session")
def damaged(made_once) -> Path:
    """The page of a model that takes shirts for T-shirts."""
    return made_once("damaged", damaged_in)


def damaged_in(folder: Path) -> None:
    shipped = load_checkpoint(ROOT / "models/augmented.safetensors")
    with torch.no_grad():  # Of equal logits, the first class is the prediction.
        for tensor in (shipped.model.fc3.weight, shipped.model.fc3.bias):
            tensor[6] = tensor[0]
    save_checkpoint(folder / "damaged.safetensors", shipped.model, shipped.record)
    families = ("clean", "confusion_pairs", "rotation", "regression")
    families += ("calibration", "consensus", "batch_norm", "trigger")
    tests = [str(STRESS_TESTS / f"test_{name}.py") for name in families]
    own = folder / "test_own.py"
    own.write_text(
        "def test_that_holds():\n    pass\n\n\ndef test_that_fails():\n    assert 1 == 2\n", "utf-8"
    )
    options = ("--candidate", str(folder / "damaged.safetensors"), "--stress-samples", "500")
    check(folder, *options, *tests, str(own))


@pytest.fixture(scope="session")
def passing(made_once) -> Path:
    """The page of a model that is fit to ship."""
    return made_once("passing", passing_in)


def passing_in(folder: Path) -> None:
    zoo = Zoo(folder)
    check(
        folder,
        "--stress-set",
        f"data={zoo.data}",
        "--rootdir",
        str(folder),
        str(zoo.tests),
        cwd=folder,
    )


@pytest.fixture(scope="session")
def hostile(tmp_path_factory) -> Path:
    """The page of data and a checkpoint whose every name is a script."""
    folder = tmp_path_factory.mktemp("hostile")
    classes = (EVIL, *(f"{EVIL}{number}" for number in range(3)))
    some = images_of(400)
    np.savez(
        folder / "zoo.npz",
        images=some.pixels[:, 0].numpy(),
        labels=some.labels.numpy(),
        classes=np.array(classes),
    )
    images = load_images(f"npz:{folder / 'zoo.npz'}")
    row = (
        f'[[check]]\nid = "clean"\nfamily = "clean"\nmetric = "accuracy"\nhand = '
        f'{{ threshold = 0.99, reason = "{EVIL}" }}\n'
    )
    (folder / "checks.toml").write_text(checks_text(images, row))
    record = Record("fashion-cnn", ARGUMENTS, classes, training={EVIL: EVIL}, versions={EVIL: EVIL})
    record = replace(record, history=({"epoch": EVIL},))
    save_checkpoint(folder / "model.safetensors", network(), record)
    return check(
        folder,
        *(
            "--candidate",
            str(folder / "model.safetensors"),
            "--checks",
            str(folder / "checks.toml"),
        ),
        *(
            "--stress-set",
            f"data=npz:{folder / 'zoo.npz'}",
            "--baseline",
            "none",
            "--incumbent",
            "none",
        ),
        str(STRESS_TESTS / "test_clean.py"),
    )


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install '.[browser]'"
    )
    names = (os.environ.get("STRESS_BROWSER", ""), "chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(
            "no browser: install Chromium (apt-get install chromium), or name one in "
            "$STRESS_BROWSER"
        )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Open a page and fail at the end if it wrote an error to the console."""
    pages, errors = [], []

    def opened(path: Path, *, width: int = 1280, height: int = 900, **facts):
        page = chromium.new_page(viewport={"width": width, "height": height}, **facts)
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert errors == []


def unfolded(page):
    """Unfold all that the page has, the pictures of each check among it."""
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    page.evaluate(
        "for (const row of document.querySelectorAll('.checks .more')) row.hidden = false"
    )
    return page


def listed(page) -> list[str]:
    """The checks that the table shows, in its order."""
    return [row.get_attribute("id") for row in page.locator(".checks tbody tr[id]:visible").all()]


def test_it_opens_within_two_seconds_with_the_worst_on_top(damaged, open_page):
    page = open_page(damaged)
    took = "performance.getEntriesByType('navigation')[0].loadEventEnd"
    assert min(page.evaluate(took), open_page(damaged).evaluate(took)) < 2_000
    assert damaged.stat().st_size < 3_000_000
    assert page.title() == "PARTIAL · damaged.safetensors · Model quality gate"
    finding = page.get_by_text("Shirt (−7").first
    for element in (page.locator(".headline"), finding, page.locator("#report-example")):
        place = element.bounding_box()
        assert place["y"] < 600
        assert place["x"] + place["width"] <= 1280
    assert "got worse" in page.locator(".headline").inner_text()


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_a_picture_of_a_failure_is_on_the_first_screen(damaged, open_page, width, height):
    page = open_page(damaged, width=width, height=height)
    picture = page.locator(".stress img").first.bounding_box()
    assert picture["y"] + picture["height"] / 2 < height


def test_the_keyboard_gets_through_the_page_in_few_steps(damaged, open_page):
    page = unfolded(open_page(damaged))
    elements = "[...document.querySelectorAll('a[href], button, input, summary, [tabindex]')]"
    stops = page.evaluate(f"{elements}.filter(element => element.tabIndex >= 0).length")
    assert stops < 300
    assert page.locator(".checks tbody tr[id] :is(a, button)").count() > 200, (
        "more than the table has stops"
    )


def test_arrows_move_between_checks_and_between_pictures(damaged, open_page):
    page = open_page(damaged)
    focused = (
        "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
    )
    first, second = listed(page)[:2]
    page.locator(f"[id='{first}'] th a").first.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == second
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == f"link to {second}"
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == f"link to {first}"
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(focused) == f"link to {first}", (
        "the stop of the table is where it was left"
    )

    page.get_by_role("searchbox", name="search").fill(second)
    stop = page.locator(".checks tbody tr[id] [tabindex='0']")
    assert stop.inner_text() == second, "a row that a filter hides has no stop"

    pictures = page.locator(".pictures img, .figures img")
    pictures.first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.alt") == pictures.nth(1).get_attribute("alt")


def test_a_phone_shows_no_table_that_moves_sideways(damaged, open_page):
    page = unfolded(open_page(damaged, width=390, height=844))
    wide = (
        "[...document.querySelectorAll('table, .scroll')].filter(one => one.scrollWidth > "
        "one.clientWidth + 1)"
    )
    assert page.evaluate(f"{wide}.map(one => one.closest('.section').dataset.name)") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    cell = page.locator(".checks tbody td[data-title=measured]").first
    assert "measured" in cell.evaluate("cell => getComputedStyle(cell, '::before').content"), (
        "values have their titles"
    )


def test_checks_stand_in_one_table_and_other_tests_in_a_list(damaged, passing, open_page):
    page = unfolded(open_page(damaged))
    rows = [row.split() for row in page.locator(".tests > li").all_inner_texts()]
    assert [(row[0], row[1].rpartition("::")[2]) for row in rows] == [
        ("failed", "test_that_fails"),
        ("passed", "test_that_holds"),
    ]
    assert "assert 1 == 2" in page.locator(".tests pre").inner_text()
    assert page.locator("main .tests").count() == 1
    page = open_page(passing)
    assert page.locator("[data-name=tests]").count() == 0
    assert page.title() == "PASS · augmented.safetensors · Model quality gate"


def test_pictures_are_enlarged_and_turned_by_mouse_and_keyboard(damaged, open_page):
    page = open_page(damaged)
    dialog, shown = page.locator("#zoom"), page.locator("#zoom img")
    figure = page.locator(".figure img").first
    figure.click()
    assert dialog.is_visible()
    assert shown.get_attribute("src") == figure.get_attribute("src")
    assert shown.bounding_box()["width"] > figure.bounding_box()["width"]
    shown.click()
    assert not dialog.is_visible()
    figure.focus()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    page.keyboard.press("Escape")
    sheet = page.locator(".section[data-name=failures] .gallery").first
    sources = [each.get_attribute("src") for each in sheet.locator("img").all()]
    assert len(sources) > 3
    sheet.locator("img").first.click()
    for key, at in (
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("ArrowLeft", 0),
        ("ArrowLeft", -1),
    ):
        page.keyboard.press(key)
        assert shown.get_attribute("src") == sources[at]
    assert f"({len(sources)} of {len(sources)}, " in page.locator("#zoom p").inner_text()
    captions = sheet.locator("figcaption").all_inner_texts()
    sure = [int(each.split("\n")[1].split("%")[0]) for each in captions]
    assert sure == sorted(sure, reverse=True), "mistakes are sorted by confidence"


def test_the_name_of_a_check_opens_and_closes_its_pictures(damaged, open_page):
    page = open_page(damaged)
    name = page.locator(".checks th a", has_text="clean-shirt").first
    pictures = page.locator("#pictures-clean-shirt")
    assert not pictures.is_visible()
    for key, state in (("Enter", "visible"), ("Enter", "hidden"), ("Enter", "visible")):
        name.focus()
        page.keyboard.press(key)
        pictures.wait_for(state=state)
    assert pictures.locator("p").first.inner_text().startswith("clean-shirt: accuracy")
    pictures.locator("img").first.click()
    assert page.locator("#zoom").is_visible()


@pytest.mark.parametrize("width", [390, 1280])
def test_links_lead_to_checks_that_nothing_hides(damaged, open_page, width):
    page = open_page(damaged, width=width)
    page.evaluate("for (const box of document.querySelectorAll('.tools [value=fail]')) box.click()")
    for name in ("clean-bag", "clean-shirt", "pictures-clean-coat"):
        page.goto(f"{damaged.as_uri()}?{name}#{name}")
        page.locator(f"[id={name}]").wait_for(state="visible")
        page.wait_for_timeout(100)
        row = page.locator(f"[id={name.removeprefix('pictures-')}]").bounding_box()
        head = page.locator(".checks thead").bounding_box()
        assert row["y"] >= head["y"] + head["height"] - 1, "the head of the table stays"
        assert row["y"] < 800


def test_a_phone_shows_what_leads_and_the_rest_folded(damaged, open_page):
    page = open_page(damaged, width=390, height=844)
    assert page.evaluate("document.documentElement.scrollHeight") < 8 * 844
    figures = page.locator(".section[data-name=figures] > details")
    assert figures.get_attribute("open") is None
    page.locator('nav a[href="#report-figures"]').click()
    figures.locator(".figure img").first.wait_for(state="visible")


def test_a_link_into_a_fold_opens_it(damaged, open_page):
    page = open_page(damaged)
    meaning = page.locator("#about-rotation")
    assert not meaning.is_visible()
    page.locator('a[href="#about-rotation"]').first.click()
    meaning.wait_for(state="visible")
    page.goto(f"{damaged.as_uri()}?folded#word-reference-models")
    page.locator("#word-reference-models").wait_for(state="visible")


def test_checks_can_be_searched_filtered_and_saved(damaged, open_page):
    page = open_page(damaged)
    everything, search = listed(page), page.get_by_role("searchbox", name="search")
    search.fill("rotated rotate-cw")
    assert 0 < len(listed(page)) < len(everything)
    assert all("rotate-cw-" in name for name in listed(page))
    assert (
        page.locator(".tools[role=search] output").inner_text()
        == f"{len(listed(page))} of {len(everything)} checks"
    )
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as CSV").click()
    with saved.value.path().open(encoding="utf-8", newline="") as file:
        titles, *rows = csv.reader(file)
    assert titles[:6] == ["check", "status", "measured", "direction", "threshold", "missed by"]
    assert [row[0] for row in rows] == listed(page)
    assert all(
        row[3] == "at_least" and 0 < float(row[2]) < 1 and 0 < float(row[4]) < 1
        for row in rows
        if row[4]
    )
    search.fill("single classes shirt clean-shirt")
    assert listed(page) == ["clean-shirt"]
    page.locator(".tools [value=fail]").uncheck()
    assert listed(page) == []
    page.goto(f"{damaged.as_uri()}#clean-bag")
    page.locator("#clean-bag").wait_for(state="visible")
    assert listed(page) == everything, "a link to a row that a filter hides takes the filters away"


def test_checks_are_sorted_by_their_titles_with_keys_alone(damaged, open_page):
    page = open_page(damaged)
    title = page.get_by_role("button", name="measured", exact=True)
    values = (
        "rows => rows.map(row => row.cells[2].dataset.value).filter(value => value !== "
        "undefined).map(Number)"
    )
    for direction, order in (("ascending", 1), ("descending", -1)):
        title.focus()
        page.keyboard.press("Enter")
        assert title.locator("xpath=..").get_attribute("aria-sort") == direction
        found = page.locator(".checks tbody tr[id]").evaluate_all(values)
        assert found == sorted(found, reverse=order < 0)
        assert len(found) > 20
    page.get_by_role("button", name="status", exact=True).click()
    assert page.locator(".checks tbody tr td:nth-child(2)").first.inner_text() == "✗ fails"
    assert page.locator(".checks thead th[aria-sort]").count() == 1
    page.locator(".checks tbody tr[id]").last.scroll_into_view_if_needed()
    head, table = (
        page.locator(part).bounding_box() for part in (".checks thead th >> nth=0", ".tall")
    )
    assert abs(head["y"] - table["y"]) < 3, "titles stay"


def test_a_link_and_the_command_of_a_check_are_copied(damaged, open_page):
    page = open_page(damaged)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for name, start, end in (
        ("link to clean-shirt", damaged.as_uri(), "#clean-shirt"),
        (
            "command for clean-shirt",
            "pytest -q",
            f"-k '[clean-shirt]' --stress-reports {damaged.parent}/clean-shirt",
        ),
    ):
        page.get_by_role("button", name=name, exact=True).click()
        told = "said => document.querySelector('.tools[role=search] output').textContent === said"
        page.wait_for_function(told, arg=f"copied: {name.split()[0]} of clean-shirt")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith(start)
        assert copied.endswith(end)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("outcome", ["passing", "damaged"])
def test_axe_finds_nothing_that_keeps_anybody_out(request, open_page, outcome, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe: pip install '.[browser]'"
    )
    page = unfolded(open_page(request.getfixturevalue(outcome), color_scheme=scheme))
    found = axe.Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in {"serious", "critical"}]
    assert [(each["id"], [node["target"] for node in each["nodes"][:3]]) for each in serious] == []
    back, ink = (
        sum(map(int, page.evaluate(f"getComputedStyle(document.body).{name}")[4:-1].split(",")))
        for name in ("backgroundColor", "color")
    )
    assert (back < ink) == (scheme == "dark")
    assert abs(back - ink) > 400


def test_headings_are_in_order_and_tables_and_pictures_can_be_read(damaged, open_page):
    page = open_page(damaged)
    levels = page.locator("main :is(h1, h2, h3, h4, h5, h6)").evaluate_all(
        "all => all.map(one => +one.tagName[1])"
    )
    assert levels[0] == 2
    assert max(after - before for before, after in pairwise(levels)) <= 1
    pictures = page.locator(".stress img").all()
    assert len(pictures) > 10
    assert all(picture.get_attribute("alt") for picture in pictures)
    table = page.locator("#report-failures ~ .scroll table").first
    copied = table.evaluate(
        "table => { getSelection().selectAllChildren(table); return getSelection().toString(); }"
    )
    rows = [line.split("\t") for line in copied.strip().splitlines()]
    assert [cell.strip() for cell in rows[0]][:3] == ["kind", "candidate", "baseline"]
    assert len({len(row) for row in rows}) == 1
    assert len(rows) == 12


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_width_makes_the_page_scroll_sideways(damaged, open_page, width):
    page = unfolded(open_page(damaged, width=width, height=844))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wider = (
        "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => "
        "one.textContent.slice(0, 40))"
    )
    assert width < 1280 or open_page(damaged).locator(".scroll").evaluate_all(wider) == []


def on_paper(page):
    """Show the printed form of the page."""
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    return page


def test_paper_has_the_verdict_and_all_that_fails(damaged, open_page):
    page = on_paper(open_page(damaged))
    failing = page.locator("[data-name=checks] tr:has(td.worse)")
    assert failing.count() > 5
    assert all(row.is_visible() for row in failing.all())
    assert page.locator(".headline").is_visible()
    assert not page.locator(".tests").is_visible()
    assert page.locator("[data-name=figures] .figure img").first.is_visible()
    assert page.locator(".checks .more").first.is_hidden()


def test_paper_says_what_words_mean_and_has_no_table_where_no_check_fails(passing, open_page):
    page = open_page(passing)
    assert not page.locator("#word-reference-models").is_visible()
    assert on_paper(page).locator("#word-reference-models").is_visible()
    assert not page.locator(".section[data-name=checks]").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert not page.locator("#word-reference-models").is_visible()


def test_paper_has_all_of_a_comparison(open_page, tmp_path):
    path = tmp_path / "compare.html"
    flips = {
        "new_failures": [1, 2],
        "fixed_failures": [],
        "mcnemar_p": 0.5,
        "by_class": {},
        "by_pair": {},
    }
    path.write_text(
        comparison_page(overview(model(), model("plain"), n=60), flips, {"data": "some"}, {}),
        "utf-8",
    )
    page = on_paper(open_page(path))
    for name in ("comparison", "figures", "covered"):
        assert page.locator(f".section[data-name={name}] h2").is_visible()


def test_names_from_files_run_no_script(hostile, open_page):
    page = unfolded(open_page(hostile))
    assert page.evaluate("window.pwned") is None
    assert "<script>window.pwned" in page.locator("body").inner_text()
