"""Child processes.

Each way in which one fails is an error of its call, and none outlives this process.
"""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from harness.base.errors import DataError, InputError
from harness.base.launcher import Child, ChildLostError, ChildRaisedError, call_in_child


def facts(*values):
    return {"process": os.getpid(), "values": values, "content": b"\n\x00", "empty": b""}


def hash_of(text):
    return {"hash": hash(text)}


def refuse():
    raise DataError("images: are gone", below=["first", "second"], setting="data", code="E999")


def fail():
    raise KeyError("lost")


def return_a_set():
    return {"values": {1, 2}}


def leave(status):
    print("bye", "é")
    os._exit(status)


def end_by(number):
    os.kill(os.getpid(), number)


def hang():
    time.sleep(60)


def print_a_lot():
    print("x" * 100_000)
    return {"input": sys.stdin.read()}


def fork_and_return():
    return {"is_copy": os.fork() == 0}


def close_all():
    os.closerange(3, 20)


def exit_status(status):
    facts.left_behind = True  # type: ignore[attr-defined]
    return status


def left_behind():
    return {"left_behind": hasattr(facts, "left_behind")}


@pytest.fixture
def child():
    with closing(Child(path=sys.path)) as started:
        yield started


def test_an_answer_has_the_values_of_json_and_bytes(child):
    answer = child.call(facts, 1, "two", None)
    again = child.call(facts)

    assert answer["values"] == [1, "two", None]
    assert (answer["content"], answer["empty"]) == (b"\n\x00", b"")
    assert answer["process"] == again["process"] != os.getpid()


def test_a_function_alone_needs_no_package(tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("import harness, torch")
    code = "import sys\n\ndef modules():\n    return {'modules': sorted(sys.modules)}\n"
    (tmp_path / "package/alone.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    from package.alone import modules

    answer = call_in_child(modules, alone=True)

    assert "package.alone" in answer["modules"]
    assert "harness" not in answer["modules"]
    assert "torch" not in answer["modules"]


def test_the_seed_of_hashes_is_that_of_the_call():
    first, again, other = (
        call_in_child(hash_of, "text", path=sys.path, hash_seed=seed)["hash"]
        for seed in ("1", "1", "2")
    )
    assert first == again != other


def test_input_errors_are_those_of_the_function(child):
    with pytest.raises(InputError) as raised:
        child.call(refuse)
    assert str(raised.value) == "data: images: are gone\nfirst\nsecond"
    assert (raised.value.setting, raised.value.code) == ("data", "E999")
    assert child.call(facts)["values"] == []


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (fail, r"^it raised KeyError: 'lost' \(test_launcher.py:\d+\)$"),
        (return_a_set, "it raised TypeError: Object of type set is not JSON serializable"),
    ],
)
def test_other_errors_leave_the_child_alive(child, function, message):
    with pytest.raises(ChildRaisedError, match=message):
        child.call(function)
    assert child.call(facts)["values"] == []


LOSSES = {
    "status": (leave, (0,), "its process ended with status 0; it printed: bye é", 0),
    "signal": (end_by, (signal.SIGSEGV,), "its process was ended by SIGSEGV", -signal.SIGSEGV),
    "kill": (end_by, (signal.SIGKILL,), "SIGKILL, possibly for lack of memory", -signal.SIGKILL),
    "closed": (close_all, (), "its process ended with status 1", 1),
    "hang": (hang, (), r"it gave no answer within 1.5 s \(patience\)", -signal.SIGKILL),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_child_fails_each_further_call(child, loss):
    function, arguments, message, status = LOSSES[loss]
    child.call(facts)
    timeout_s = 1.5 if loss == "hang" else None
    for _ in range(2):
        with pytest.raises(ChildLostError, match=message) as raised:
            child.call(function, *arguments, timeout_s=timeout_s, timeout_name="patience")
        assert raised.value.status == status


def test_output_and_input_are_not_those_of_this_process(child, capfd):
    assert child.call(print_a_lot) == {"input": ""}
    assert capfd.readouterr() == ("", "")


def test_a_fork_of_the_function_answers_nothing(child):
    assert child.call(fork_and_return) == {"is_copy": False}
    assert child.call(fork_and_return) == {"is_copy": False}


def test_an_answer_has_a_limit(child):
    with pytest.raises(ChildLostError, match=r"it sent no valid answer|its process"):
        child.call(bytes_of, 1 << 25, most_bytes=10)


def bytes_of(count):
    return {"content": bytes(count)}


def test_a_copy_leaves_nothing_behind_and_its_end_is_its_status():
    with closing(Child(path=sys.path, forks=True)) as child:
        child.call(facts)
        assert child.call_in_copy(exit_status, 3) == 3
        assert child.call_in_copy(end_by, signal.SIGSEGV) == -signal.SIGSEGV
        assert child.call_in_copy(fail) == 1
        assert child.call(left_behind) == {"left_behind": False}


def test_a_closed_child_ends_its_call(child):
    threading.Timer(1.0, child.close).start()
    start = time.monotonic()
    with pytest.raises(ChildLostError, match="its process was closed"):
        child.call(hang)
    assert time.monotonic() - start < 30
    with pytest.raises(ChildLostError, match="its process was closed"):
        child.call(facts)


def test_a_child_ends_with_its_parent(tmp_path):
    (tmp_path / "waiting.py").write_text(
        "import time\n\ndef wait(file):\n"
        "    import os\n    open(file, 'w').write(str(os.getpid()))\n    time.sleep(60)\n"
    )
    code = """
        import sys
        sys.path.insert(0, ".")
        from waiting import wait
        from harness.base.launcher import call_in_child
        call_in_child(wait, "process.txt", alone=True)
    """
    file = tmp_path / "process.txt"
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path) as parent:
        _until(lambda: file.exists() and file.read_text())
        parent.kill()
    process = int(file.read_text())
    _until(lambda: _has_ended(process))


def _has_ended(process):
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def _until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
