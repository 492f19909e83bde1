"""Pictures on their way from the process that ran a test into the page."""

import html
import re
import warnings

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import hypothesis  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
import pytest
import scipy.stats  # noqa: F401
from PIL import ImageFont  # noqa: F401
from zoo import ROWS, Zoo, details_in

from harness.plugin import pictures
from harness.run import evidence

PAIR = """
[[check]]
id = "pair"
family = "pairs"
metric = "pair_failures"
direction = "at_most"
pair = ["ant", "bee"]
hand = { threshold = 1 }
"""


pytestmark = pytest.mark.zoo(ROWS + PAIR, tests=("clean", "confusion_pairs"))


@pytest.fixture(autouse=True)
def a_noisy_network(zoo):
    zoo.save("noisy.safetensors", jitter=4.0)


def entries(zoo: Zoo, pytester, *arguments: str) -> dict[str, str]:
    """Run the gate on the noisy network against the good one; return what the page shows of each test."""
    candidate = ("--candidate", "noisy.safetensors", "--baseline", "models/augmented.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytester.runpytest_inprocess("stress_tests", "--stress-set", f"data={zoo.data}", *candidate, *arguments)
    return details_in((zoo.root / "reports/stress.html").read_text(encoding="utf-8"))


def test_a_failed_pair_shows_three_pictures_and_its_gallery(zoo, pytester):
    serial = entries(zoo, pytester)
    pair = serial["pair"]
    assert "pair: pair failures" in pair
    assert pair.count('<figure class="picture"') == 3
    assert pair.count('class="gallery"') == 1
    assert "ant and bee predicted as each other, clean images" in pair
    assert re.search(
        r"image \d+: (ant predicted as bee|bee predicted as ant), confidence \d+%; (new|baseline wrong too)", pair
    )
    assert "looks most at the" in pair, "both networks have a layer to look at"
    assert "omitted" not in pair
    assert 'class="gallery"' not in serial["clean"]


def test_a_page_that_would_be_too_large_says_what_it_leaves_out(zoo, pytester, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 15_000)
    pair = entries(zoo, pytester, "-k", "pair")["pair"]
    assert 1 <= pair.count('<figure class="picture"') < 3
    assert re.search(r"\d pictures? (and the gallery )?omitted", pair)
    assert "-k '[pair]' --stress-reports reports/pair<" in html.unescape(pair)


PASSES = """
[[check]]
id = "passes-{number}"
family = "pairs"
metric = "pair_failures"
pair = ["ant", "bee"]
hand = {{ threshold = 399 }}
"""


def test_tests_that_pass_make_only_the_pictures_that_fit_the_page(zoo, pytester, monkeypatch):
    zoo.bind(PAIR + "".join(PASSES.format(number=number) for number in range(9)))
    asked = []
    telling_examples = evidence.telling_examples
    monkeypatch.setattr(evidence, "telling_examples", lambda *given: asked.append(given) or telling_examples(*given))
    monkeypatch.setattr(pictures, "MAX_BYTES", 80_000)
    shown = entries(zoo, pytester, "--stress-set=no_overview=true")
    first = [name for name in shown if name.startswith("passes") and '<figure class="picture"' in shown[name]]
    assert 1 <= len(first) < 8
    assert len(asked) <= len(first) + 2, "but for that which fails, and the first that found no room"
    assert first == [f"passes-{number}" for number in range(len(first))]
    assert shown["pair"].count('<figure class="picture"') == 3, "of a failure they are made as ever"
    unmade = html.unescape(shown["passes-8"])
    assert '<p class="omitted">pictures omitted, to keep this page small' in unmade
    assert "-k '[passes-8]' --stress-reports reports/passes-8<" in unmade
    assert '<figure class="picture"' in entries(zoo, pytester, "-k", "passes-8")["passes-8"]


def test_pictures_that_cannot_be_made_do_not_end_the_run(zoo, pytester, monkeypatch):
    monkeypatch.setattr("harness.run.evidence.telling_examples", lambda *_: 1 / 0)
    shown = entries(zoo, pytester, "-k", "pair")["pair"]
    assert "the pictures could not be made: ZeroDivisionError" in html.unescape(shown)
    assert 'class="gallery"' in shown
