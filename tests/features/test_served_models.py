"""Served models as candidates.

Requests to a correct server, and the errors of a faulty one.
"""

import hashlib
import json
import re
import socket
import time
import traceback
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from urllib.parse import quote

import numpy as np
import pytest
import torch
from inference_servers import (
    as_probabilities,
    by_tiles,
    dropped,
    inference_server,
    refused,
    stalled,
)
from PIL import Image

from harness.base.cache import Store
from harness.base.errors import InputError
from harness.data import LabelledImages, load_images
from harness.features.served_models import exchange
from harness.features.served_models.credentials import Credentials
from harness.inference import open_model
from harness.inference.engine import BackendLostError
from harness.networks import NetworkOptions
from harness.perturb import Pose

CLASSES = tuple("abcdefghij")
IMAGES = LabelledImages(
    torch.randint(
        0, 256, (200, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    ),
    torch.arange(200) % 10,
    CLASSES,
    "made",
    "test",
)
MOVED = Pose(5, 0, 0)
OPENING = 5
"""Requests for predictions that opening a model takes: one for each of four probes alone, and one
for all together.
"""


@pytest.fixture
def server():
    with inference_server() as served:
        yield served


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Wait for milliseconds where a run waits for seconds."""
    monkeypatch.setattr(exchange, "_FIRST_WAIT", 0.005)
    for name in ("STRESS_HTTP_TOKEN", "NETRC", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def opened(url, cache=None, *, images=IMAGES, batch=32, timeout=60.0, outputs=None, **http):
    given = {"model_outputs": outputs, "predictor_batch": batch, "predictor_timeout": timeout}
    network = NetworkOptions(**given, **{f"http_{name}": value for name, value in http.items()})
    return open_model(url, images, role="candidate", network=network, cache=cache)


def by_files(files):
    """Return scores of ten classes, (N, 10), by the bytes of files."""
    return np.array(
        [np.frombuffer(hashlib.sha256(file).digest()[:10], np.uint8) for file in files], np.float32
    )


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Return images of JPEG files, and the files."""
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(20):
        folder = root / CLASSES[number % 10]
        folder.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 12), dtype=np.uint8)).save(
            folder / f"{number}.jpg"
        )
    images = load_images(f"folder:{root}", size=(8, 8))
    return images, [path.read_bytes() for path in sorted(root.rglob("*.jpg"))]


def expected(images=IMAGES):
    return by_tiles(images.pixels.numpy().astype(np.float32) / 255)


@pytest.fixture
def cache(tmp_path):
    return Store(tmp_path / "predictions")


class TestAServerThatDoesRight:
    @pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
    def test_its_scores_arrive_bit_for_bit(self, binary):
        with inference_server(binary=binary) as served:
            np.testing.assert_array_equal(opened(served.url).predict(IMAGES).logits, expected())

    @pytest.mark.parametrize(
        ("shape", "datatype"),
        [
            ((-1, 28, 28, 1), "FP32"),
            ((-1, 28, 28), "FP32"),
            ((-1, 784), "FP64"),
            ((-1, 1, -1, -1), "UINT8"),
            ((32, 1, 28, 28), "FP32"),
            ((7, 784), "UINT8"),
            ((1, 1, 28, 28), "FP32"),
        ],
        ids=lambda each: str(each).replace(" ", ""),
    )
    def test_images_arrive_as_its_metadata_say(self, shape, datatype):
        with inference_server(shape=shape, datatype=datatype) as served:
            logits = opened(served.url).predict(IMAGES).logits
            pixels = IMAGES.pixels.numpy().astype(np.float32)
            values = pixels if datatype == "UINT8" else pixels / 255
            np.testing.assert_allclose(
                logits, by_tiles(values), rtol=1e-4, atol=1e-4 * np.abs(logits).max()
            )
            if shape[0] != -1:
                assert set(served.batches) == {shape[0]}

    def test_channels_stand_where_its_metadata_say(self):
        colored = LabelledImages(
            IMAGES.pixels.repeat(1, 3, 1, 1)[:40], IMAGES.labels[:40], CLASSES, "made", "test"
        )
        first = lambda images: by_tiles(images.transpose(0, 3, 1, 2))  # noqa: E731
        with inference_server(first, shape=(-1, 28, 28, 3)) as served:
            np.testing.assert_allclose(
                opened(served.url, images=colored).predict(colored).logits, expected(colored)
            )
        with (
            inference_server(by_files, shape=(-1, 2), datatype="BYTES") as served,
            pytest.raises(
                InputError, match=r"takes several files an image, expected \[-1\] or \[-1, 1\]"
            ),
        ):
            opened(served.url)

    @pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
    @pytest.mark.parametrize("shape", [(-1,), (-1, 1), (8, -1)], ids=str)
    def test_one_that_decodes_gets_the_files(self, photographs, cache, binary, shape):
        images, files = photographs
        with inference_server(by_files, shape=shape, datatype="BYTES", binary=binary) as served:
            served.metadata["inputs"][0]["shape"] = list(shape)
            model = opened(served.url, cache, images=images, batch=8)
            np.testing.assert_array_equal(model.predict(images).logits, by_files(files))
            assert set(files) <= set(served.images)
            assert not model.classifier.plain.identity.lasting, (
                "other files may have the same pixels"
            )
            model.predict(images, MOVED)
            assert served.images[-1].startswith(b"\x89PNG"), (
                "no file has the pixels of a moved image"
            )
            asked = len(served.images)
            opened(served.url, cache, images=images, batch=8).predict(images)
            assert not set(files) & set(served.images[asked + 4 * OPENING :]), (
                "answers to files are kept"
            )

    @pytest.mark.parametrize("outputs", [None, "probabilities"])
    def test_probabilities_are_declared_or_beyond_doubt(self, outputs):
        with inference_server(lambda images: as_probabilities(by_tiles(images) / 100)) as served:
            model = opened(served.url, outputs=outputs)
            found = model.predict(IMAGES).probabilities
            np.testing.assert_allclose(found, as_probabilities(expected() / 100), atol=1e-6)
            assert model.as_json()["outputs"] == "probabilities"
            assert ("so they are probabilities" in model.note) == (outputs is None)

    @pytest.mark.parametrize("shaped", [(-1,), (-1, 1)], ids=str)
    def test_labels_are_taken_as_labels(self, shaped):
        with inference_server(
            lambda images: by_tiles(images).argmax(axis=1).reshape(shaped)
        ) as served:
            served.metadata["outputs"] = [
                {"name": "label", "datatype": "INT64", "shape": list(shaped)}
            ]
            model = opened(served.url)
            np.testing.assert_array_equal(
                model.predict(IMAGES).predicted, expected().argmax(axis=1)
            )
            assert model.as_json()["outputs"] == "labels"

    def test_of_several_outputs_the_scores_or_the_named_one_are_asked_for(self):
        with inference_server() as served:
            served.metadata["outputs"].insert(
                0, {"name": "label", "datatype": "INT64", "shape": [-1]}
            )
            assert opened(served.url).as_json()["output"] == "scores"
        with inference_server() as served:
            served.metadata["outputs"] *= 2
            served.metadata["outputs"][1] = served.metadata["outputs"][1] | {"name": "others"}
            with pytest.raises(
                InputError, match=r"outputs are scores FP32 \[-1, 10\], others .* http_output"
            ):
                opened(served.url)
            assert opened(served.url, output="others").as_json()["output"] == "others"
            with pytest.raises(InputError, match=r"http_output x: .*is no output of the model"):
                opened(served.url, output="x")

    def test_requests_run_side_by_side_as_many_as_allowed(self, server, monkeypatch):
        monkeypatch.delenv(
            "PYTEST_XDIST_WORKER_COUNT", raising=False
        )  # Workers share what is allowed.

        def wait_for_others(number, handler):
            until = time.monotonic() + 5
            while server.most_at_once < 3 and time.monotonic() < until:
                time.sleep(0.01)

        model = opened(server.url, concurrency=3)
        server.fault = wait_for_others
        model.predict(IMAGES, MOVED)
        assert server.most_at_once == 3
        server.fault, server.most_at_once = (lambda *_: time.sleep(0.01)), 0
        opened(server.url, concurrency=1).predict(IMAGES, MOVED)
        assert server.most_at_once == 1

    def test_no_more_requests_a_second_than_allowed(self, server):
        started = time.monotonic()
        opened(server.url, rate=50).predict(IMAGES)
        assert len(server.requests) - 1 <= 50 * (time.monotonic() - started) + 1

    def test_connections_stay_alive_and_a_version_in_the_url_is_asked(self, server):
        seen = set()
        server.fault = lambda number, handler: seen.add(handler.client_address[1])
        opened(server.url, concurrency=2).predict(IMAGES)
        assert len(seen) <= 3
        server.requests.clear()
        model = opened(f"{server.url}/versions/1/")
        assert model.as_json()["version"] == "1"
        assert all("/versions/1" in path for _, path, _ in server.requests if "models" in path)
        with pytest.raises(InputError, match="answers 404"):
            opened(f"{server.url}/versions/2")


class TestAnAddress:
    @pytest.mark.parametrize(
        ("form", "said"),
        [
            ("http://{}/v2", "is no address of a served model"),
            ("http://{}/v2/models/clf/infer", "is no address of a served model"),
            ("http://{}/v2/models/clf?token=hunter2", "query"),
            ("http://{}/v2/models/clf#hunter2", "fragment"),
            ("http://me:hunter2@{}/v2/models/clf", "credentials"),
            ("http://hunter2@{}/v2/models/clf", "credentials"),
            ("http://host:port/v2/models/clf", "is no URL"),
            ("http:///v2/models/clf", "is no address"),
        ],
    )
    def test_of_another_form_is_refused(self, server, form, said):
        with pytest.raises(InputError, match=said) as refusal:
            opened(form.format(server.root.removeprefix("http://")))
        assert "hunter2@" not in str(refusal.value)
        assert not server.requests

    def test_where_nobody_answers_is_refused(self):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v2/models/clf"
        with pytest.raises(InputError, match="gave no answer in 6 attempts"):
            opened(url)

    def test_that_redirects_is_not_followed(self, server):
        with inference_server() as other:
            server.fault = lambda number, handler: refused(
                handler, 307, {"Location": f"{other.url}/infer?key=hunter2"}
            )
            with pytest.raises(InputError, match="redirects to") as refusal:
                opened(server.url)
            assert not other.requests
            assert "hunter2" not in str(refusal.value)


SECRET = "s3cr3t-hunter2/Key+4f9a"
ECHOES = {
    "whole": lambda secret: f"Bearer {secret}",
    "begin": lambda secret: secret[:12],
    "end": lambda secret: f"…{secret[-12:]}",
    "far behind": lambda secret: "x" * 70 + secret,
    "base64": lambda secret: encoded(f"Bearer {secret}"),
    "hexadecimal": lambda secret: secret.encode().hex(),
    "quoted": lambda secret: quote(secret, safe=""),
    "upper case": str.upper,
    "password": lambda _: SECRET,
}
"""Forms in which a server repeats the credentials."""


def encoded(text):
    return b64encode(text.encode()).decode()


def shown_of(server):
    """Return all that a user of a server may see.

    The model, and errors with the locals of the harness.
    """
    shown = ""
    try:
        model = opened(server.url)
        shown = f"{model!r} {model.as_json()}"
        model.predict(IMAGES, MOVED)
    except (InputError, BackendLostError) as error:
        found = traceback.TracebackException(
            type(error), error, error.__traceback__.tb_next.tb_next, capture_locals=True
        )
        shown += "".join(found.format()) + str(error)
    return shown


def in_answers(**facts):
    """Return what puts an echo into each answer."""

    def put(server, echo):
        server.change = lambda number, answer: (
            answer | {name: make(echo) for name, make in facts.items()}
        )

    return put


def in_errors(status, **headers):
    """Return what answers every request with an error, its echo in the body and in headers."""

    def put(server, echo):
        said = {name.replace("_", "-"): value.format(echo) for name, value in headers.items()}
        server.fault = lambda number, handler: (
            handler.send(status, json.dumps({"error": echo}).encode(), said) or True
        )

    return put


def in_reason(server, echo):
    def answer(number, handler):
        handler.send_response(401, echo)
        handler.end_headers()
        return dropped(handler)

    server.fault = answer


PLACES = {
    "id": in_answers(id=str),
    "id in a list": in_answers(id=lambda echo: [{echo: 1}]),
    "model": in_answers(model_name=str),
    "version": in_answers(model_version=str),
    "another version": lambda server, echo: setattr(
        server,
        "change",
        lambda number, answer: answer | ({"model_version": echo} if number > 6 else {}),
    ),
    "output": in_answers(outputs=lambda echo: [{"name": echo}]),
    "shape": in_answers(
        outputs=lambda echo: [{"name": "scores", "datatype": "FP32", "shape": echo}]
    ),
    "datatype": in_answers(outputs=lambda echo: [{"name": "scores", "datatype": echo}]),
    "twice": lambda server, echo: setattr(
        server, "raw", lambda number, body: f'{{"{echo}": 1, "{echo}": 2}}'.encode()
    ),
    "input of the metadata": lambda server, echo: server.metadata["inputs"][0].update(name=echo),
    "datatype of the metadata": lambda server, echo: server.metadata["inputs"][0].update(
        datatype=echo
    ),
    "output of the metadata": lambda server, echo: server.metadata["outputs"][0].update(name=echo),
    "versions": lambda server, echo: (
        setattr(server, "version", echo),
        setattr(server, "names_version", False),
    ),
    "compression": lambda server, echo: server.headers.update({"Content-Encoding": ascii(echo)}),
    "length": lambda server, echo: server.headers.update(
        {"Inference-Header-Content-Length": ascii(echo)}
    ),
    "an error": in_errors(400),
    "text": in_errors(500, Content_Type="text/plain"),
    "a redirect": in_errors(302, Location="https://elsewhere/{}/x"),
    "a redirect's query": in_errors(302, Location="https://elsewhere/?token={}"),
    "a long body": lambda server, echo: in_errors(403)(server, "x" * 190 + echo),
    "a reason": in_reason,
}
"""Where a server repeats the credentials."""


class TestCredentials:
    @pytest.fixture
    def credentials(self, monkeypatch, tmp_path):
        def name(token, entry):
            (tmp_path / "netrc").write_text(entry)
            monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
            monkeypatch.setenv("STRESS_HTTP_TOKEN", token)

        return name

    @pytest.mark.parametrize(
        ("token", "entry", "header"),
        [
            ("hunter2", "", "Bearer hunter2"),
            ("Key hunter2", "", "Key hunter2"),
            ("", "machine 127.0.0.1 login me password hunter2\n", "Basic bWU6aHVudGVyMg=="),
        ],
    )
    def test_of_the_environment_or_netrc_are_sent(self, server, credentials, token, entry, header):
        credentials(token, entry)
        model = opened(server.url)
        assert {headers.get("Authorization") for *_, headers in server.requests} == {header}
        assert (
            "hunter2" not in f"{model!r} {model.as_json()} {vars(model.classifier.plain.predictor)}"
        )

    @pytest.mark.parametrize(
        ("token", "entry", "said"),
        [
            ("", "machine 127.0.0.1 login me passwrd hunter2\n", "line 1"),
            ("hunter2\nX: y", "", "STRESS_HTTP_TOKEN: has characters"),
            ("hunter2", "", "answers 401: no such token: …"),
        ],
    )
    def test_that_are_refused_are_not_shown(self, server, credentials, token, entry, said):
        credentials(token, entry)
        server.fault = lambda number, handler: handler.send(401, b"no such token: hunter2") or True
        with pytest.raises(InputError, match=said) as refusal:
            opened(server.url)
        assert "hunter2" not in str(refusal.value)
        assert "hunter2" not in refusal.value.message

    @pytest.mark.parametrize(
        "case",
        [
            *((place, "whole", SECRET) for place in PLACES),
            *(
                ("id", form, sent)
                for form in ECHOES
                for sent in (SECRET, f"Basic {encoded(f'someone:{SECRET}')}")
            ),
        ],
    )
    def test_no_part_of_an_answer_shows_them(self, server, monkeypatch, caplog, case):
        place, form, sent = case
        caplog.set_level(1)
        monkeypatch.setenv("STRESS_HTTP_TOKEN", sent)
        PLACES[place](server, ECHOES[form](sent.removeprefix("Basic ")))
        shown = shown_of(server)
        shown += caplog.text
        assert "hunter" not in shown
        for secret in (SECRET, encoded(SECRET), SECRET.encode().hex(), sent.removeprefix("Basic ")):
            assert not [
                part for at in range(len(secret) - 7) if (part := secret[at : at + 8]) in shown
            ]

    def test_they_are_not_sent_unencrypted(self, monkeypatch):
        monkeypatch.setenv("STRESS_HTTP_TOKEN", "hunter2")
        with pytest.raises(InputError, match="unencrypted; use https://"):
            opened("http://192.0.2.1/v2/models/clf")


class TestMetadata:
    @pytest.mark.parametrize(
        ("inputs", "said"),
        [
            ([], "name 0 inputs"),
            ([("a", "FP32", [-1, 784]), ("b", "FP32", [-1])], "name 2 inputs"),
            ([("a", "INT32", [-1, 784])], "datatype"),
            ([("a", "BYTES", [-1, 784])], "takes several files an image"),
            ([("a", "FP32", [-1, 3, 28, 28])], r"does not take images \(1, 28, 28\)"),
            ([("a", "FP32", [-1, 1, 32, 32])], "does not take images"),
            ([("a", "FP32", [1, 28, 28, 1, 1])], "does not take images"),
            ([("a", "FP32", [])], "no dimension of images"),
            ([("a", "FP32", [0, 784])], "no dimension of images"),
            ([("a", "FP32", None)], "shape is None, expected a list"),
            ([("a", None, [1])], "datatype is None, expected text"),
            ("pixels", "inputs is 'pixels', expected a list"),
        ],
    )
    def test_that_do_not_fit_are_refused_before_anything_is_sent(self, server, inputs, said):
        if isinstance(inputs, list):
            inputs = [
                dict(zip(("name", "datatype", "shape"), each, strict=True)) for each in inputs
            ]
        server.metadata["inputs"] = inputs
        with pytest.raises(InputError, match=said):
            opened(server.url)
        assert not server.images

    def test_that_leave_the_place_of_channels_open_are_refused(self, server):
        colored = LabelledImages(
            IMAGES.pixels.repeat(1, 3, 1, 1), IMAGES.labels, CLASSES, "made", "test"
        )
        server.metadata["inputs"][0]["shape"] = [-1, -1, -1, -1]
        with pytest.raises(InputError, match="fits several layouts"):
            opened(server.url, images=colored)


def changed(output=None, **facts):
    """Return what changes an answer, or its one output."""
    return lambda number, answer: (
        answer | {"outputs": [answer["outputs"][0] | (output or {})]} | facts
    )


class TestAnAnswer:
    @pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (changed(id="other"), "has the id"),
            (changed(model_name="other"), "has the model_name 'other', expected 'clf'"),
            (changed({"name": "other"}), "has the outputs 'other', expected one 'scores'"),
            (changed({"datatype": "INT64"}), "has the datatype 'INT64', expected FP32"),
            (changed({"datatype": "FP9"}), "has the datatype 'FP9'"),
            (changed({"datatype": ["FP32"]}), "datatype is .*, expected text"),
            (changed({"shape": [320]}), "the answer has"),
            (changed({"shape": [-32, -10]}), "the answer has"),
            (changed({"shape": "32x10"}), "shape is '32x10', expected a list"),
            (changed(outputs=[]), "has the outputs none|bytes of tensors"),
            (changed(outputs=None), "has the outputs none|bytes of tensors"),
            (changed(outputs="x"), "outputs is 'x', expected a list"),
            (changed(id=["x"]), "has the id"),
        ],
    )
    def test_out_of_order_is_refused(self, binary, change, said):
        with inference_server(binary=binary) as served:
            served.change = change
            with pytest.raises(InputError, match=said):
                opened(served.url)

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            ([float("nan")] * 10, "NaN or infinity for 1 of 1 images"),
            ([1e300] * 10, "NaN or infinity"),
            (["1"] * 10, "expected FP32"),
            ([True] * 10, "expected FP32"),
            ([None] * 10, "expected FP32"),
            ([10**400] * 10, "a whole number of 401 digits"),
            ([[1.0], [2.0, 3.0]], "expected FP32"),
            ([1.0] * 9, "9 values"),
            ({}, "expected FP32"),
        ],
        ids=repr,
    )
    def test_with_other_numbers_is_refused(self, data, said):
        with inference_server(binary=False) as served:
            served.change = changed({"data": data})
            with pytest.raises(InputError, match=said):
                opened(served.url)

    @pytest.mark.parametrize(
        ("raw", "said"),
        [
            (lambda number, body: body[:-1], "bytes of tensors|is no JSON"),
            (lambda number, body: body[: len(body) // 2], "has .* bytes and the header|is no JSON"),
            (lambda number, body: body + b"x", "bytes of tensors|is no JSON"),
            (lambda number, body: b"", "has 0 bytes|is no JSON"),
            (lambda number, body: b"[" * 100_000, "is no JSON"),
            (lambda number, body: b'"x"', "expected an object|has 3 bytes"),
            (lambda number, body: body + b" " * (2 << 20), "is longer than"),
        ],
        ids=["last byte", "half", "one more", "nothing", "nested", "text", "huge"],
    )
    @pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
    def test_cut_or_padded_is_refused(self, binary, raw, said):
        with inference_server(binary=binary) as served:
            served.raw = raw
            with pytest.raises(InputError, match=said):
                opened(served.url)

    @pytest.mark.parametrize("key", ["id", "model_version", "datatype"])
    def test_with_a_repeated_key_is_refused(self, key):
        with inference_server(binary=False) as served:
            served.raw = lambda number, body: re.sub(
                rb'("%b": "[^"]+")' % key.encode(), rb'"%b": "x", \1' % key.encode(), body
            )
            with pytest.raises(InputError, match=rf"repeats keys of an object \({key}\)"):
                opened(served.url)

    def test_compressed_is_refused_before_it_is_unpacked(self, server):
        server.headers = {"Content-Encoding": "gzip"}
        with pytest.raises(InputError, match="compressed its answer"):
            opened(server.url)

    @pytest.mark.parametrize(
        ("begin", "part"),
        [
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"),
            (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x"),
            (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        ],
        ids=["headers", "body", "body without a length", "one header"],
    )
    def test_that_comes_in_endless_parts_is_given_up(self, server, begin, part):
        def dripping(number, handler):
            handler.wfile.write(begin)
            for _ in range(40):
                handler.wfile.write(part)
                time.sleep(0.05)
            return dropped(handler)

        server.fault = dripping
        with pytest.raises(InputError, match=r"no answer within 0.3 s \(predictor_timeout\)"):
            opened(server.url, timeout=0.3)

    def test_of_another_status_says_what_the_server_says(self, server):
        server.fault = lambda number, handler: (
            handler.send(400, b'{"error":"batch-size must be <= 8"}') or True
        )
        with pytest.raises(InputError, match=r"answers 400: .*must be <= 8.*predictor_batch"):
            opened(server.url)
        assert len([each for each in server.requests if each[0] == "POST"]) == 1


class TestTryingAgain:
    @pytest.mark.parametrize(
        "fault",
        [
            *(partial(refused, status=status) for status in (429, 502, 503, 504)),
            dropped,
            lambda handler: handler.send(200, b'{"outputs"', length=1_000) or dropped(handler),
        ],
        ids=["429", "502", "503", "504", "a dropped connection", "an answer that ends too soon"],
    )
    def test_after(self, server, fault):
        server.fault = lambda number, handler: number % 3 == 1 and fault(handler)
        np.testing.assert_array_equal(opened(server.url).predict(IMAGES).logits, expected())

    def test_no_sooner_than_the_server_asks(self, server):
        times = []

        def busy(number, handler):
            times.append(time.monotonic())
            return number == 0 and refused(handler, 429, {"Retry-After": "1"})

        server.fault = busy
        opened(server.url)
        assert times[1] - times[0] >= 1

    @pytest.mark.parametrize(
        "header", [lambda: "3600", lambda: formatdate(time.time() + 3600, usegmt=True)]
    )
    def test_not_where_the_server_asks_for_an_hour(self, server, header):
        server.fault = lambda number, handler: refused(handler, 503, {"Retry-After": header()})
        with pytest.raises(InputError, match=r"asks to wait for 3(600|599) s"):
            opened(server.url)

    def test_ends_when_the_server_stays_busy_or_stalls(self, server):
        server.fault = lambda number, handler: refused(handler, 503)
        with pytest.raises(InputError, match="no answer in 6 attempts: it answers 503"):
            opened(server.url)
        server.fault = lambda number, handler: stalled(handler, 1.0)
        started = time.monotonic()
        with pytest.raises(InputError, match=r"no answer within 0.2 s \(predictor_timeout\)"):
            opened(server.url, timeout=0.2)
        assert time.monotonic() - started < 1


class TestAServerThatCannotBeTrusted:
    @pytest.mark.parametrize(
        ("swapped", "begins"),
        [
            (lambda scores: scores[::-1], 0),
            (lambda scores: np.roll(scores, 1, axis=0), OPENING + 2),
            (lambda scores: np.random.default_rng(len(scores)).permutation(scores), OPENING + 5),
            *(
                (
                    lambda scores: (
                        scores[[1, 0, *range(2, len(scores))]] if len(scores) > 1 else scores
                    ),
                    OPENING + at,
                )
                for at in (2, 5)
            ),
        ],
        ids=["reversed", "rolled", "shuffled", "first two", "first two later"],
    )
    def test_that_mixes_up_its_predictions_is_noticed(self, server, cache, swapped, begins):
        server.values = lambda number, scores: swapped(scores) if number >= begins else scores

        def asked_for_long():
            model = opened(server.url, cache)
            for degrees in range(12):
                model.predict(IMAGES, Pose(degrees, 0, 0))

        with pytest.raises((BackendLostError, InputError), match="mixes up"):
            asked_for_long()
        server.values = lambda number, scores: scores
        model = opened(server.url, cache)
        plain = opened(server.url)
        for degrees in range(3):
            found, right = (
                each.predict(IMAGES, Pose(degrees, 0, 0)).logits for each in (model, plain)
            )
            np.testing.assert_array_equal(found, right)

    @pytest.mark.parametrize("named", [True, False], ids=["named in answers", "in metadata alone"])
    def test_whose_version_changes_ends_the_run(self, server, cache, named):
        server.names_version = named
        model = opened(server.url, cache)
        turned = []

        def deploy(number, handler):
            turned.append(number)
            if len(turned) == 4:
                server.version, server.model = "2", lambda images: -by_tiles(images)

        server.fault = deploy
        with pytest.raises(BackendLostError, match="changed during the run"):
            model.predict(IMAGES, MOVED)
        with pytest.raises(BackendLostError, match="changed during the run"):
            model.predict(IMAGES.take(torch.arange(3)), MOVED)
        server.fault = lambda number, handler: False
        again = opened(server.url, cache)
        np.testing.assert_array_equal(again.predict(IMAGES).logits, -expected())
        assert again.sha256 != model.sha256

    def test_whose_model_changes_under_one_version_ends_the_run(self, server, cache):
        opened(server.url, cache).predict(IMAGES)
        server.model = lambda images: -by_tiles(images)
        with pytest.raises(
            InputError, match=r"gives other predictions than in an earlier run.*cache --clear"
        ):
            opened(server.url, cache)

    @pytest.mark.parametrize("version", ["1", None])
    def test_whose_model_changes_between_two_calls_is_noticed(self, server, version):
        server.version = version
        model = opened(server.url)
        model.predict(IMAGES, MOVED)
        server.model = lambda images: by_tiles(images) + 50
        with pytest.raises(BackendLostError, match="or its model changed"):
            model.predict(IMAGES, Pose(7, 0, 0))

    def test_that_answers_at_random_or_mixes_up_labels_is_noticed(self, server):
        random = np.random.default_rng(0)
        server.values = lambda number, scores: random.permutation(scores.T).T
        with pytest.raises((BackendLostError, InputError), match="other predictions for"):
            opened(server.url).predict(IMAGES)
        server.model = lambda images: by_tiles(images).argmax(axis=1)
        server.metadata["outputs"] = []
        server.values = lambda number, labels: labels[::-1]
        with pytest.raises((BackendLostError, InputError), match="mixes up"):
            opened(server.url).predict(IMAGES)


class TestWhatIsKept:
    def test_all_that_was_answered_when_the_server_went_away(self, server, cache):
        model = opened(server.url, cache, batch=10)
        before, asked = len(server.images), len(server.batches)
        server.fault = lambda number, handler: number > asked + 10 and dropped(handler)
        with pytest.raises(BackendLostError, match=r"no answer in 6 attempts.*stored; run again"):
            model.predict(IMAGES, MOVED)
        answered = set(server.images[before:])
        server.fault = lambda number, handler: False
        server.images.clear()
        found = opened(server.url, cache, batch=10).predict(IMAGES, MOVED).logits
        asked = [each for each in server.images if each in answered]
        np.testing.assert_array_equal(found, opened(server.url).predict(IMAGES, MOVED).logits)
        assert len(answered) >= 70
        assert len(asked) <= 2, "an image or two to confirm"

    def test_nothing_is_asked_for_again_by_the_next_run(self, server, cache):
        opened(server.url, cache).predict(IMAGES)
        server.images.clear()
        model = opened(server.url, cache)
        np.testing.assert_array_equal(model.predict(IMAGES).logits, expected())
        assert len(server.images) == 4 + 4, "the probes"

    def test_nothing_without_a_version(self, server, cache):
        server.version = None
        opened(server.url, cache).predict(IMAGES)
        assert not list(cache.folder.rglob("*.*"))
        server.images.clear()
        model = opened(server.url, cache)
        model.predict(IMAGES)
        asked = len(server.images)
        assert asked >= 200
        model.predict(IMAGES)
        assert len(server.images) == asked, "within a run nothing is asked twice"

    def test_answers_of_two_processes_at_once(self, server, cache):
        def ask(batch):
            np.testing.assert_array_equal(
                opened(server.url, cache, batch=batch).predict(IMAGES).logits, expected()
            )

        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(ask, (16, 7, 50))) == [None] * 3
        ask(20)

    @pytest.mark.parametrize("damage", [b"", b"x" * 5_000, None], ids=["empty", "text", "bits"])
    def test_a_damaged_file_is_begun_anew(self, server, cache, damage):
        opened(server.url, cache).predict(IMAGES)
        for each in cache.folder.glob("*.entry"):
            each.unlink()
        (kept,) = cache.folder.rglob("*.sqlite")
        content = bytearray(kept.read_bytes())
        content[5_000::97] = b"\xff" * len(content[5_000::97])
        kept.write_bytes(content if damage is None else damage)
        np.testing.assert_array_equal(opened(server.url, cache).predict(IMAGES).logits, expected())

    def test_nothing_where_the_folder_cannot_be_written(self, server, tmp_path):
        (tmp_path / "file").write_text("")
        model = opened(server.url, Store(tmp_path / "file"))
        np.testing.assert_array_equal(model.predict(IMAGES).logits, expected())


def test_a_server_that_comes_and_goes_never_gives_a_wrong_answer(cache):
    random = np.random.default_rng(0)
    with inference_server() as first:
        port = first.address[1]
    asked, answered, found = [], set(), None
    for _ in range(40):
        with inference_server(port=port) as served:
            until = random.integers(4, 16)
            served.fault = lambda number, handler, until=until: number >= until and dropped(handler)
            with suppress(BackendLostError, InputError):
                found = opened(served.url, cache, batch=10).predict(IMAGES).logits
            asked += [each for each in served.images if each in answered]
            answered |= set(served.images)
        if found is not None:
            break
    np.testing.assert_array_equal(found, expected())


def test_one_rate_holds_for_all_models_of_a_server(monkeypatch):
    httpx = pytest.importorskip("httpx")
    monkeypatch.setattr(exchange.Exchange, "_once", lambda *_: httpx.Response(200))
    options = NetworkOptions(http_rate=20.0)
    two = [
        exchange.Exchange("http://127.0.0.1:1", Credentials(""), options, local=True)
        for _ in range(2)
    ]
    begun = time.monotonic()
    for each in two * 3:
        each.ask("", "it", most_bytes=1)
    assert time.monotonic() - begun >= 5 / 20
