"""Run an ONNX file once, in a process of its own, where it can neither hang nor take all memory.

Run as a script, `python onnx_trial.py MEGABYTES SECONDS CHANNELS HEIGHT WIDTH < FILE`, and for that it imports nothing
of this package. Ends with 0 when the file was run, whatever came of it: what native code makes of a file can only be
tried.
"""

from __future__ import annotations

import sys


def _limit(megabytes: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Not on Windows, where the time is limited from outside alone.
        return
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: list[str]) -> int:
    """Make a session of the file on standard input, and run it on a batch of blank images."""
    megabytes, seconds, *shape = map(int, arguments)
    import numpy as np
    import onnxruntime

    content = sys.stdin.buffer.read()
    _limit(megabytes, seconds)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        (images,) = session.get_inputs()
        sizes = [
            size if isinstance(size, int) else known for size, known in zip(images.shape, [1, *shape], strict=True)
        ]
        session.run(None, {images.name: np.zeros(sizes, dtype=np.float32)})
    except MemoryError:
        return 1
    except Exception as error:
        return int("alloc" in str(error).lower())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
