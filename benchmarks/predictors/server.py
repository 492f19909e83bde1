"""A small server of one network by the Open Inference Protocol.

It has binary tensors unless they are turned off.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import torch
from torch import nn

HEADER = "Inference-Header-Content-Length"
SIZE, CLASSES = 224, 1000


def network() -> nn.Module:
    """Return a ResNet-18 with seeded weights, in evaluation mode."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    return resnet18().eval()


def answered(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return the scores (N, 1000) of images (N, 3, 224, 224), both float32."""
    with torch.inference_mode():
        pixels = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
        return np.asarray(model(pixels).numpy())


class Handler(BaseHTTPRequestHandler):
    """Answers metadata and predictions; one prediction at a time, as a model has one core."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    extensions: tuple[str, ...] = ()
    model: nn.Module
    turn = threading.Lock()

    def do_GET(self) -> None:
        """Describe the server, or the model."""
        shape = [-1, 3, SIZE, SIZE]
        model = {
            "name": "resnet18",
            "versions": ["1"],
            "inputs": [{"name": "pixels", "datatype": "FP32", "shape": shape}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, CLASSES]}],
        }
        self.send(
            model
            if "models" in self.path
            else {"name": "benchmark", "extensions": self.extensions},
            b"",
        )

    def do_POST(self) -> None:
        """Predict."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = int(self.headers.get(HEADER, len(body)))
        request = json.loads(body[:length])
        tensor = request["inputs"][0]
        binary = length < len(body)
        values = np.frombuffer(bytearray(body[length:]) if binary else b"", "<f4")
        values = values if binary else np.array(tensor["data"], "<f4")
        with self.turn:
            scores = answered(self.model, values.reshape(tensor["shape"]))
        output = {"name": "scores", "datatype": "FP32", "shape": scores.shape}
        output |= (
            {"parameters": {"binary_data_size": scores.nbytes}}
            if binary
            else {"data": scores.ravel().tolist()}
        )
        answer = {
            "id": request["id"],
            "model_name": "resnet18",
            "model_version": "1",
            "outputs": [output],
        }
        self.send(answer, scores.tobytes() if binary else b"")

    def send(self, message: dict[str, object], content: bytes) -> None:
        """Send JSON, and tensors after it."""
        text = json.dumps(message).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text) + len(content)))
        if content:
            self.send_header(HEADER, str(len(text)))
        self.end_headers()
        self.wfile.write(text + content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve on a free port, which is printed, until the standard input ends."""
    torch.set_num_threads(1)
    Handler.model = network().to(memory_format=torch.channels_last)
    Handler.extensions = ("binary_tensor_data",) if sys.argv[1] == "binary" else ()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
