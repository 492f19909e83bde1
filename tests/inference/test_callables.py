"""Callables as predictors.

In a child process, whose faults are errors of the candidate, each in one sentence.
"""

import os
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.base import imports
from harness.base.cache import Store
from harness.base.errors import InputError
from harness.data import LabelledImages, load_images
from harness.inference import open_model
from harness.inference.predictors.answers import provided
from harness.inference.predictors.kinds import model_spec
from harness.inference.predictors.protocol import PredictorError
from harness.inference.predictors.user_callable import _plain
from harness.networks import NetworkOptions
from harness.perturb import Pose

PIXELS = torch.randint(
    0, 256, (40, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
IMAGES = LabelledImages(PIXELS, torch.arange(40) % 3, ("a", "b", "c"), "made", "test")
WEIGHTS = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
HEAD = """
    import os, sys, time
    import numpy as np

    WEIGHTS = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)

    def scores(pixels):
        return pixels.reshape(len(pixels), -1) / np.float32(255) @ WEIGHTS
"""


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []

    def open_it(code, name="answer", *, cache=None, images=IMAGES, **options):
        imports.begin()  # As another process does.
        (tmp_path / "own.py").write_text(textwrap.dedent(HEAD) + textwrap.dedent(code))
        outputs = options.pop("outputs", None)
        network = NetworkOptions(model_outputs=outputs, **{"predictor_timeout": 20.0, **options})
        model = open_model(
            model_spec(f"python:own:{name}"), images, role="candidate", network=network, cache=cache
        )
        made.append(model)
        return model

    yield open_it
    for model in made:
        model.classifier.plain.predictor.close()


def test_it_is_given_bytes_and_its_logits_are_taken(opened):
    model = opened(
        """
        def answer(pixels):
            print("noise on standard output")
            assert pixels.dtype == np.uint8 and pixels.shape == (32, 4, 4, 1)
            assert "torch" not in sys.modules and "harness" not in sys.modules
            assert sys.stdin.read() == ""
            return scores(pixels)
        """
    )
    expected = PIXELS.flatten(1).numpy() / np.float32(255) @ WEIGHTS
    np.testing.assert_allclose(model.predict(IMAGES).logits, expected, rtol=1e-5, atol=1e-6)
    assert model.as_json()["callable"] == "own:answer"
    assert model.as_json()["outputs"] == "logits"


def test_it_is_given_float32_where_it_asks_for_it_and_numpy_may_declare_it(opened):
    model = opened(
        """
        def answer(pixels):
            assert pixels.dtype == np.float32 and pixels.max() <= 1
            return scores(pixels * 255)
        answer.pixels = "float32"
        """
    )
    assert model.as_json()["pixels"] == "float32"
    model = opened("""
        def answer(pixels):
            e = np.exp(scores(pixels)); e /= e.sum(1, keepdims=True)
            return np.where(np.eye(3)[e.argmax(1)] == 1, e, np.nan)
        answer.pixels, answer.top = np.str_("uint8"), np.int64(1)
        answer.outputs = np.str_("probabilities")
    """)
    assert model.provides.top == 1
    model = opened("def answer(pixels): return scores(pixels)\nanswer.files = 'own.py'")
    assert "files_sha256" in model.as_json()
    assert (opened(ENCODED).predict(IMAGES).logits[:, 2] == 0).all()


def test_a_class_is_made_once_and_answers_by_predict(opened):
    model = opened(
        """
        class Model:
            outputs = "probabilities"
            def __init__(self, classes):
                assert classes == ["a", "b", "c"]
                print("made", file=open("made.txt", "a"))
            def predict(self, pixels):
                e = np.exp(scores(pixels)); return e / e.sum(1, keepdims=True)
        """,
        "Model",
    )
    assert model.predict(IMAGES, Pose(5)).probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert Path("made.txt").read_text() == "made\n"
    assert model.provides.scores == "probabilities"


@pytest.mark.parametrize(
    "code", ["scores(pixels).argmax(1)", "np.array(list('abc'))[scores(pixels).argmax(1)]"]
)
def test_labels_are_numbers_or_names(opened, code):
    model = opened(f"def answer(pixels): return {code}")
    expected = (PIXELS.flatten(1).numpy() / np.float32(255) @ WEIGHTS).argmax(1)
    assert (model.predict(IMAGES).predicted == expected).all()
    assert model.provides.known == 0


FAULTS = {
    "exception": ("raise KeyError('lost')", r"it raised KeyError: 'lost' \(own.py:\d+\)"),
    "exit": ("sys.exit(0)", "it raised SystemExit: 0"),
    "end": (
        "print('bye', flush=True); os._exit(0)",
        "its process ended with status 0; it printed: bye",
    ),
    "crash": ("os.kill(os.getpid(), 11)", "its process was ended by SIGSEGV"),
    "kill": (
        "os.kill(os.getpid(), 9)",
        "its process was ended by SIGKILL, possibly for lack of memory",
    ),
    "hang": ("time.sleep(60)", r"no answer within 1 s \(predictor_timeout\)"),
    "fork": ("return scores(pixels) if os.fork() else scores(pixels) * 0", ""),
    "fork and end": (
        "os.fork() and os._exit(3); time.sleep(60)",
        "its process ended with status 3",
    ),
    "closed": ("os.closerange(3, 20)", "its process ended with status 1"),
    "unpicklable": (
        "class Odd(Exception):\n    def __reduce__(self): raise ValueError\nraise Odd('x')",
        "it raised .*Odd: x",
    ),
    "nothing": ("return None", "it returned NoneType of object, expected an array of numbers"),
    "huge": (
        "return np.zeros((len(pixels), 1 << 24), np.int8)",
        r"shape \(32, 16777216\), expected \(32, 3\) scores",
    ),
    "names": (
        "return np.array(['dog'] * len(pixels))",
        "it returned the label 'dog', expected one of a, b, c",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_an_error_of_the_candidate(opened, fault):
    code, message = FAULTS[fault]
    body = textwrap.indent(code, "    ")
    if not message:
        opened(f"def answer(pixels):\n{body}").predict(IMAGES)
        return
    start = time.monotonic()
    with pytest.raises(InputError, match=f"candidate python:own:answer: .*{message}"):
        opened(f"def answer(pixels):\n{body}", predictor_timeout=1.0 if fault == "hang" else 20.0)
    assert time.monotonic() - start < 10


CHANNEL = """
    import gc
    from multiprocessing.connection import Connection

    CHANNEL = next(each for each in gc.get_objects() if isinstance(each, Connection))

    def never(*_):
        time.sleep(60)

    def answer(pixels):
        {}
"""


@pytest.mark.parametrize(
    ("does", "message"),
    [
        (
            "os.write(CHANNEL.fileno(), bytes(3)); never()",
            r"no answer within 1 s \(predictor_timeout\)",
        ),
        (
            "CHANNEL._send(bytes([0, 0, 1, 0]) + b'{'); never()",
            r"no answer within 1 s \(predictor_timeout\)",
        ),
        (
            "CHANNEL.send_bytes(bytes((1 << 24) + 1))",
            "it sent no valid answer|its process was ended",
        ),
        ("CHANNEL.send_bytes(b'no JSON'); never()", "it sent no valid answer"),
        (
            "CHANNEL.recv_bytes = never; return scores(pixels)",
            r"no answer within 1 s \(predictor_timeout\)",
        ),
    ],
    ids=[
        "half a length",
        "half a message",
        "too large",
        "no message",
        "a request that it never reads",
    ],
)
def test_no_message_holds_the_run_up(opened, monkeypatch, does, message):
    monkeypatch.setattr("harness.base.launcher._ENDING_SECONDS", 0.5)
    large = LabelledImages(
        torch.zeros((40, 1, 128, 128), dtype=torch.uint8),
        IMAGES.labels,
        IMAGES.classes,
        "x",
        "test",
    )
    code = CHANNEL.format(does).replace(
        "scores(pixels)", "pixels.reshape(len(pixels), -1)[:, :3] * 1.0"
    )
    start = time.monotonic()
    with pytest.raises(InputError, match=message):
        opened(code, images=large, predictor_timeout=1.0)
    assert time.monotonic() - start < 15


def test_a_fault_later_on_stays(opened, monkeypatch):
    model = opened(
        """
        calls = []
        def answer(pixels):
            calls.append(1)
            if len(calls) > 4: os._exit(7)
            return scores(pixels)
        """
    )
    for _ in range(2):
        with pytest.raises(InputError, match="its process ended with status 7"):
            model.predict(IMAGES, Pose(7))
    with pytest.raises(
        InputError, match=r"sums of 2 to 2, expected a sum of 1 .* model_outputs logits"
    ):
        opened("""
            calls = []
            def answer(pixels):
                calls.append(1)
                e = np.exp(scores(pixels))
                return e / e.sum(1, keepdims=True) * (1 + (len(calls) > 1))
        """)
    monkeypatch.setenv("OWN", "before")
    opened(
        "os.environ['OWN'] = 'after'; os.chdir('/'); sys.path.clear()\ndef answer(pixels): return "
        "scores(pixels)"
    )
    assert os.environ["OWN"] == "before"
    assert "own" not in sys.modules


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nowhere", "on import it raised ModuleNotFoundError"),
        ("answer = 3", "own:answer is a int, expected a callable"),
        ("def other(): pass", "AttributeError"),
        (
            "def answer(pixels): return scores(pixels)\nanswer.pixels = 'int8'",
            "declares pixels = 'int8', expected uint8",
        ),
        (
            "def answer(pixels): return scores(pixels)\nanswer.files = ['gone']",
            "the file .*gone, which does not exist",
        ),
        *(
            (
                f"def answer(pixels): return scores(pixels)\nanswer.{name} = {value}",
                rf"declares {name} = .*, expected",
            )
            for name, value in (
                ("pixels", "{1, 2}"),
                ("outputs", "object()"),
                ("top", "np.arange(3)"),
            )
        ),
    ],
)
def test_code_that_is_no_predictor_is_refused(opened, code, message):
    with pytest.raises(InputError, match=f"candidate python:own:answer: .*{message}"):
        opened(code)


@pytest.mark.parametrize(
    ("own", "top", "message"),
    [
        *(
            (each, None, "declares outputs = .*, expected logits")
            for each in ("x", "b'x'", "[<class 'float'>]", 1)
        ),
        *((None, each, "declares top = .*, expected a number") for each in ("2", 0, True, "1j")),
        ("logits", 2, "declares the top 2 classes and logits"),
    ],
)
def test_declarations_that_are_none_are_refused(own, top, message):
    with pytest.raises(PredictorError, match=message):
        provided(np.zeros((2, 3), np.float32), None, own, top=top)


@pytest.mark.parametrize(
    "value",
    [{1, 2}, np.arange(3), object(), b"x", [float], 1j],
    ids=lambda value: type(value).__name__,
)
def test_a_declaration_that_json_does_not_have_is_a_text(value):
    assert _plain(value) == repr(value)[:500]
    assert _plain(np.int64(3)) == 3


@pytest.mark.parametrize(
    ("end", "scores"), [("", "probabilities"), ("- 1e-2", "logits"), ("* 1.01", "logits")]
)
def test_undeclared_probabilities_are_taken_as_such(opened, end, scores):
    model = opened(f"""
        def answer(pixels):
            e = np.exp(scores(pixels)); return e / e.sum(1, keepdims=True) {end}
    """)
    assert model.provides.scores == scores
    assert ("set model_outputs logits" in model.note) == (scores == "probabilities")


@pytest.mark.parametrize("last", ["pass", "time.sleep(60)"])
def test_a_process_that_it_leaves_behind_holds_nothing_up(opened, last):
    code = f"""
        import subprocess
        subprocess.Popen(["sleep", "8"], start_new_session=True, close_fds=False)
        def answer(pixels):
            {last}
            return scores(pixels)
        """
    start = time.monotonic()
    with suppress(InputError):
        opened(code, predictor_timeout=1.0).classifier.plain.predictor.close()
    assert time.monotonic() - start < 6


def test_answers_are_kept_where_it_declares_its_files(opened, tmp_path):
    code = """
        def answer(pixels):
            print(len(pixels), file=open("asked.txt", "a"))
            return scores(pixels) + float(open("bias.txt").read())
        """
    cache, asked = Store(tmp_path / "cache"), tmp_path / "asked.txt"
    hashes = []
    for declared, bias, again in (
        ("", "1", 2),
        ("", "1", 2),
        (files := "['bias.txt']", "1", 2),
        (files, "1", 0),
        (files, "2", 2),
    ):
        (tmp_path / "bias.txt").write_text(bias)
        model = opened(
            textwrap.dedent(code) + (f"answer.files = {declared}" if declared else ""), cache=cache
        )
        asked.write_text("")
        model.predict(IMAGES, Pose(9))
        assert len(asked.read_text().split()) == again
        hashes.append(model.sha256)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


HELPED = {
    "imported-lazily": "import helper",
    "by-name": "import importlib; helper = importlib.import_module('help' + 'er')",
    "after-some-batches": "CALLS.append(0); len(CALLS) > 1 and __import__('helper')",
    "in-another-process": "from multiprocessing import Process; Process(target=__import__, "
    "args=('helper',)).start()",
}


@pytest.mark.parametrize("way", HELPED)
def test_answers_are_dropped_once_a_helper_changes(opened, tmp_path, way):
    """Even one that it imports while it answers.

    Imports of another process cannot be followed.
    """
    code = f"""
        CALLS = []
        def answer(pixels):
            print(len(pixels), file=open("asked.txt", "a"))
            {HELPED[way]}
            return scores(pixels)
        answer.files = []
        """
    cache, asked = Store(tmp_path / "cache"), tmp_path / "asked.txt"
    (tmp_path / "helper.py").write_text("bias = 0\n")
    counts = []
    for _ in range(3):
        model = opened(code, cache=cache)
        asked.write_text("")
        model.predict(IMAGES, Pose(9))
        counts.append(len(asked.read_text().split()))
        if len(counts) == 2:
            (tmp_path / "helper.py").write_text("bias = 0.5\n")
    assert counts == ([2, 2, 2] if way == "in-another-process" else [2, 0, 2])


ORDERED = """
    def answer(pixels):
        return np.eye(3, dtype=np.float32)[(pixels[:, 0, 0, 0] + SHIFT) % 3]
    answer.outputs = "logits"
"""


def test_classes_in_another_order_are_found_and_named(opened):
    pixels = (torch.arange(60) % 3).to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 4, 4)
    images = LabelledImages(pixels, torch.arange(60) % 3, ("a", "b", "c"), "made", "test")
    with pytest.raises(
        InputError, match=r"(?m)most clean images of a as b \(20 of 20\).*own order: c,a,b$"
    ) as told:
        opened(ORDERED.replace("SHIFT", "1"), images=images)
    own = tuple(str(told.value)[-5:].split(","))
    for model in (
        opened(ORDERED.replace("SHIFT", "1"), images=images, classes=",".join(own)),
        opened(ORDERED.replace("SHIFT", "1") + f"    answer.classes = {own!r}\n", images=images),
    ):
        assert model.predict(images).correct.all()
    with pytest.raises(InputError, match=r"(?m)own order: c,a,b$"):
        opened(ORDERED.replace("SHIFT", "1"), images=images, classes="b,a,c")
    declares = ORDERED.replace("SHIFT", "1") + f"    answer.classes = {own!r}\n"
    names = "def answer(pixels):\n    return np.array(['a', 'b', 'c'])[pixels[:, 0, 0, 0] % 3]\n"
    for code in (
        declares,
        names,
    ):  # These say the order themselves, and the setting is for other models.
        model = opened(code, images=images, classes="b,a,c", outputs="probabilities")
        assert model.predict(images).correct.all()
    with pytest.raises(InputError, match="it lacks c, has besides x"):
        opened(ORDERED.replace("SHIFT", "0"), images=images, classes="a,b,x")


ENCODED = """
    import hashlib, io

    import numpy as np
    from PIL import Image

    KINDS = []

    def answer(files):
        assert isinstance(files, list)
        pixels = []
        for file in files:
            with Image.open(io.BytesIO(file)) as opened:
                KINDS.append(opened.format)
                small = opened.resize((4, 4), Image.Resampling.NEAREST)
                pixels.append(np.asarray(small.convert("L")))
        red = np.stack(pixels).reshape(len(files), 16) / np.float32(255)
        jpeg = np.array([[kind == "JPEG"] for kind in KINDS[-len(files):]], np.float32)
        return np.concatenate([red[:, :2], 10 * jpeg], axis=1)

    answer.pixels = "encoded"
"""


def test_one_that_decodes_by_itself_gets_the_files(opened, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for number in range(12):
        file = tmp_path / "photos" / "abc"[number % 3] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(file, quality=90)
    images = load_images(f"folder:{tmp_path / 'photos'}", size=(4, 4))
    model = opened(ENCODED, images=images)
    assert not model.classifier.plain.identity.lasting
    assert (model.predict(images).logits[:, 2] == 10).all(), "the files themselves, as JPEG"
    assert (model.predict(images.take(torch.tensor([7, 2]))).logits[:, 2] == 10).all()
    moved = model.predict(images, Pose(dx=1))
    assert (moved.logits[:, 2] == 0).all(), "a PNG file of pixels that no file has"
    assert (moved.logits[:, 0] == 0).all(), "black comes in on the left"
