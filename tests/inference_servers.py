"""A server of models by the Open Inference Protocol, which misbehaves on request."""

import base64
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

DTYPES = {"FP32": "<f4", "FP64": "<f8", "UINT8": "u1", "INT64": "<i8"}


def by_tiles(images):
    """Return scores of ten classes, (N, 10), for images in the tensor's form.

    They differ from image to image.
    """
    flat = images.reshape(len(images), -1).astype(np.float64)
    weights = np.random.default_rng(1).normal(size=(flat.shape[1], 10))
    return (flat @ weights).astype(np.float32)


def as_probabilities(scores):
    found = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (found / found.sum(axis=1, keepdims=True)).astype(np.float32)


def _files(content):
    """Return the files of a tensor of bytes, each with its length before it."""
    files = []
    while content:
        end = 4 + int.from_bytes(content[:4], "little")
        files.append(content[4:end])
        content = content[end:]
    return files


class Inference:
    """A served model: what it is, how it answers, and what it was asked.

    `fault` is called with the number of a request for predictions and the handler, and returns True
    where it has answered. `change` changes an answer before it is sent, `raw` its bytes.
    """

    def __init__(
        self, address, model, *, shape=(-1, 1, 28, 28), datatype="FP32", classes=10, binary=True
    ):
        self.address, self.model = address, model
        self.version = "1"
        self.names_version = True
        self.binary = binary
        self.metadata = {
            "name": "clf",
            "versions": ["1"],
            "platform": "test",
            "inputs": [{"name": "pixels", "datatype": datatype, "shape": list(shape)}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, classes]}],
        }
        self.fault = lambda number, handler: False
        self.change = lambda number, answer: answer
        self.raw = lambda number, body: body
        self.values = lambda number, scores: scores
        self.headers = {}
        self.requests = []
        self.images = []
        self.batches = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def root(self):
        return f"http://{self.address[0]}:{self.address[1]}"

    @property
    def url(self):
        return f"{self.root}/v2/models/clf"

    def described(self):
        return self.metadata | {"versions": [self.version] if self.version else []}

    def answer(self, number, request, content):
        tensor = request["inputs"][0]
        if tensor["datatype"] == "BYTES":
            images = (
                _files(content) if content else [base64.b64decode(text) for text in tensor["data"]]
            )
            assert tensor["shape"] == [
                len(images),
                *(1 for _ in self.metadata["inputs"][0]["shape"][1:]),
            ]
        else:
            dtype = DTYPES[tensor["datatype"]]
            values = np.frombuffer(content, dtype) if content else np.array(tensor["data"], dtype)
            images = values.reshape(tensor["shape"])
        with self.lock:
            self.images += [each if isinstance(each, bytes) else each.tobytes() for each in images]
            self.batches.append(len(images))
        scores = self.values(number, self.model(images))
        kind = "FP32" if scores.dtype.kind == "f" else "INT64"
        named = request["outputs"][0]["name"] if request.get("outputs") else "scores"
        output = {"name": named, "datatype": kind, "shape": list(scores.shape)}
        answer = {"id": request.get("id"), "model_name": "clf", "outputs": [output]}
        if self.names_version and self.version:
            answer["model_version"] = self.version
        if content:
            part = scores.astype(DTYPES[kind]).tobytes()
            output["parameters"] = {"binary_data_size": len(part)}
            return self.change(number, answer), part
        output["data"] = scores.ravel().tolist()
        return self.change(number, answer), b""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # A header would wait 40 ms for the body after it.
    served = None

    def do_GET(self):
        served = self.served
        served.requests.append(("GET", self.path, dict(self.headers)))
        path = self.path.rstrip("/")
        if path == "/v2":
            extensions = ["binary_tensor_data"] if served.binary else []
            self.send(
                200, json.dumps({"name": "test", "version": "0", "extensions": extensions}).encode()
            )
        elif path in {"/v2/models/clf", f"/v2/models/clf/versions/{served.version}"}:
            self.send(200, json.dumps(served.described()).encode())
        else:
            self.send(404, b'{"error":"no such model"}')

    def do_POST(self):
        served = self.served
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with served.lock:
            number = sum(method == "POST" for method, *_ in served.requests)
            served.requests.append(("POST", self.path, dict(self.headers)))
            served.at_once += 1
            served.most_at_once = max(served.most_at_once, served.at_once)
        try:
            if served.fault(number, self):
                return
            length = self.headers.get("Inference-Header-Content-Length")
            head = body[: int(length)] if length else body
            answer, part = served.answer(number, json.loads(head), body[len(head) :])
            text = json.dumps(answer).encode()
            headers = {"Inference-Header-Content-Length": str(len(text))} if part else {}
            self.send(200, served.raw(number, text + part), headers | served.headers)
        finally:
            with served.lock:
                served.at_once -= 1

    def send(self, status, body, headers=None, *, length=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


@contextmanager
def inference_server(model=by_tiles, *, port=0, **facts):
    """Yield a server that runs, with one model."""
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", port), handler)
    handler.served = Inference(server.server_address, model, **facts)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield handler.served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def dropped(handler):
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.close()
    return True


def stalled(handler, seconds):
    """Answer nothing for a time."""
    time.sleep(seconds)
    return dropped(handler)


def refused(handler, status, headers=None):
    """Answer with a status alone."""
    handler.send(status, b'{"error":"busy"}', headers)
    return True
