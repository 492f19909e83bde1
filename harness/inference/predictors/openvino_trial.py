"""Run a network in OpenVINO's format once, in a process of its own, where it can neither hang nor take all memory.

Run as a script, `python openvino_trial.py MEGABYTES SECONDS LENGTH CHANNELS HEIGHT WIDTH`, with the description, of
LENGTH bytes, and the weights on standard input. It imports nothing of this package. Ends with 0 when the network was
run, whatever came of it: only a trial shows what native code makes of a file.
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
    """Compile the network on standard input, and run it on one blank image."""
    megabytes, seconds, length, *shape = map(int, arguments)
    import numpy as np
    import openvino

    content = sys.stdin.buffer.read()
    _limit(megabytes, seconds)
    try:
        core = openvino.Core()
        model = core.read_model(content[:length], content[length:])
        (images,) = model.inputs
        sizes = [
            known if size.is_dynamic else size.get_length()
            for size, known in zip(images.partial_shape, [1, *shape], strict=True)
        ]
        settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        compiled = core.compile_model(model, "CPU", settings)
        compiled([np.zeros(sizes, dtype=images.element_type.to_dtype())])
    except MemoryError:
        return 1
    except Exception as error:
        return int("alloc" in str(error).lower())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
