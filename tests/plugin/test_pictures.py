"""Pictures on their way from the process that ran a test into the page."""

import html
import re

import pytest
from zoo import ROWS, details_in

from harness.plugin import pictures
from harness.run import evidence

pytestmark = pytest.mark.usefixtures("unchecked")
PAIR = """
[[check]]
id = "pair"
family = "pairs"
metric = "pair_failures"
direction = "at_most"
pair = ["ant", "bee"]
hand = { threshold = 1 }
"""
PASSES = """
[[check]]
id = "passes-{number}"
family = "pairs"
metric = "pair_failures"
pair = ["ant", "bee"]
hand = {{ threshold = 399 }}
"""
TESTS = ("clean", "confusion_pairs")
BOUND = ROWS + PAIR
MODELS = ("--candidate", "noisy.safetensors", "--baseline", "models/augmented.safetensors")
PICTURE = '<figure class="picture"'


@pytest.fixture
def entries(shared):
    """Return what the page shows of each test, of the noisy network against the good one."""
    shared.save("noisy.safetensors", jitter=4.0)

    def of(*arguments, note="", **how):
        ran = shared.once(
            *MODELS,
            "--stress-set=no_overview=true",
            *arguments,
            page=True,
            files={"note": note},
            **how,
        )
        return details_in(ran.page)

    return of


def test_a_failed_pair_shows_three_pictures_and_its_gallery(entries):
    shown = entries()
    pair = shown["pair"]
    assert "pair: pair failures" in pair
    assert (pair.count(PICTURE), pair.count('class="gallery"')) == (3, 1)
    assert "ant and bee predicted as each other, clean images" in pair
    assert re.search(
        r"image \d+: (ant predicted as bee|bee predicted as ant), confidence \d+%; (new|baseline "
        r"wrong too)",
        pair,
    )
    assert "looks most at the" in pair, "both networks have a layer to look at"
    assert "omitted" not in pair
    assert 'class="gallery"' not in shown["clean"]


def test_a_page_that_would_be_too_large_says_what_it_leaves_out(entries, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 15_000)
    pair = entries("-k", "pair", note="small")["pair"]
    assert 1 <= pair.count(PICTURE) < 3
    assert re.search(r"\d pictures? (and the gallery )?omitted", pair)
    assert "-k '[pair]' --stress-reports reports/pair<" in html.unescape(pair)


def test_tests_that_pass_make_only_the_pictures_that_fit_the_page(entries, monkeypatch):
    asked = []
    telling_examples = evidence.telling_examples
    monkeypatch.setattr(
        evidence, "telling_examples", lambda *given: asked.append(given) or telling_examples(*given)
    )
    monkeypatch.setattr(pictures, "MAX_BYTES", 80_000)
    rows = PAIR + "".join(PASSES.format(number=number) for number in range(9))
    shown = entries("-k", "pair", note="few", rows=rows)
    first = [name for name in shown if name.startswith("passes") and PICTURE in shown[name]]
    assert 1 <= len(first) < 8
    assert len(asked) <= len(first) + 2, (
        "but for that which fails, and the first that found no room"
    )
    assert first == [f"passes-{number}" for number in range(len(first))]
    assert shown["pair"].count(PICTURE) == 3, "of a failure they are made as ever"
    unmade = html.unescape(shown["passes-8"])
    assert '<p class="omitted">pictures omitted, to keep this page small' in unmade
    assert "-k '[passes-8]' --stress-reports reports/passes-8<" in unmade


def test_pictures_that_cannot_be_made_do_not_end_the_run(entries, monkeypatch):
    monkeypatch.setattr("harness.run.evidence.telling_examples", lambda *_: 1 / 0)
    shown = entries("-k", "pair", note="broken")["pair"]
    assert "the pictures could not be made: ZeroDivisionError" in html.unescape(shown)
    assert 'class="gallery"' in shown
