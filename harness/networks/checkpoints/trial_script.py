"""Run a network once, in a process of its own with limits of time and memory.

The command is `python trial_script.py ENGINE MEGABYTES SECONDS LENGTH CHANNELS HEIGHT WIDTH`. Standard input has the
network: LENGTH bytes describe it, and the rest are weights. The script imports nothing of this package. It ends with 0
if the network ran, even with an error, since only exhaustion counts here.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def _limit(megabytes: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; the caller still limits the time.
        return
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _onnx(onnxruntime: Any, content: bytes, length: int, shape: list[int]) -> None:  # noqa: ARG001  An ONNX network is one file.
    import numpy as np

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    if images.shape[-1] in {1, 3} and images.shape[1] not in {1, 3}:  # Channels stand last.
        shape = [*shape[1:], shape[0]]
    sizes = [size if isinstance(size, int) else known for size, known in zip(images.shape, [1, *shape], strict=True)]
    kinds = {"tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    session.run(None, {images.name: np.zeros(sizes, dtype=kinds.get(images.type, np.float32))})


def _openvino(openvino: Any, content: bytes, length: int, shape: list[int]) -> None:
    import numpy as np

    core = openvino.Core()
    model = core.read_model(content[:length], content[length:])
    (images,) = model.inputs
    sizes = [
        known if size.is_dynamic else size.get_length()
        for size, known in zip(images.partial_shape, [1, *shape], strict=True)
    ]
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1})
    compiled([np.zeros(sizes, dtype=images.element_type.to_dtype())])


ENGINES = {"onnxruntime": _onnx, "openvino": _openvino}
"""Runners of the network on one blank image, by package."""


def main(arguments: list[str]) -> int:
    """Run the network from standard input on one blank image."""
    engine, *numbers = arguments
    megabytes, seconds, length, *shape = map(int, numbers)
    import numpy  # noqa: F401  Imported, like the engine, before the limit of memory.

    package = import_module(engine)
    content = sys.stdin.buffer.read()
    _limit(megabytes, seconds)
    try:
        ENGINES[engine](package, content, length, shape)
    except MemoryError:
        return 1
    except Exception as error:
        return int("alloc" in str(error).lower())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
