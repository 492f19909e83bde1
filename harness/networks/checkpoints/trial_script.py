"""Run a network in a file once, in a process of its own, where it can neither hang nor take all memory.

Run as a script, `python trial_script.py ENGINE MEGABYTES SECONDS LENGTH CHANNELS HEIGHT WIDTH`, with the network on
standard input; of its bytes, LENGTH describe it, and the others are weights. It imports nothing of this package. Ends
with 0 when the network was run, whatever came of it: only a trial shows what native code makes of a file.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def _limit(megabytes: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Not on Windows, where the time is limited from outside alone.
        return
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _onnx(onnxruntime: Any, content: bytes, length: int, shape: list[int]) -> None:  # noqa: ARG001  It is one file.
    import numpy as np

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    sizes = [size if isinstance(size, int) else known for size, known in zip(images.shape, [1, *shape], strict=True)]
    session.run(None, {images.name: np.zeros(sizes, dtype=np.float32)})


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
    """Run the network on standard input on one blank image."""
    engine, *numbers = arguments
    megabytes, seconds, length, *shape = map(int, numbers)
    import numpy  # noqa: F401  Before memory is limited, as is the engine.

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
