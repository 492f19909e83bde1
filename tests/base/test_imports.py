"""A kept result is used only while the user's code that made it is unchanged.

It does not matter how that code was loaded.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from harness.base import imports
from harness.base.cache import Store

KEY = "a" * 64
PROCESSES = """
import json, os, sys
from pathlib import Path
from types import ModuleType
import numpy as np
from harness.base.cache import Store
for folder, code in json.loads(sys.argv[1]).items():
    if not os.fork():
        os.chdir(folder)
        sys.path.insert(0, folder)
        import net
        cache = Store(Path("cache"))
        exec(code)
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0
"""
"""A process for each folder, copied from one that has imported what takes long."""
STORE = "net.predict(); cache.store('a' * 64, np.ones(2))"
ASK = "print(cache.load('a' * 64, (2,)) is not None)"
LOAD = f"net.predict(); {ASK}"
NETS = {
    "import": "import helper\ndef predict(): pass",
    "imported-lazily": "def predict():\n    import helper",
    "imported-by-name": (
        "import importlib\ndef predict():\n    importlib.import_module('help' + 'er')"
    ),
    "loaded-by-path": (
        "from importlib.util import module_from_spec, spec_from_file_location\ndef predict():\n"
        "    spec = spec_from_file_location('other', 'helper.py')\n    "
        "spec.loader.exec_module(module_from_spec(spec))"
    ),
    "run-by-path": "import runpy\ndef predict():\n    runpy.run_path('helper.py')",
    "compiled": (
        "def predict():\n    exec(compile(open('helper.py').read(), 'helper.py', 'exec'), {})"
    ),
    "optional": "def predict():\n    try:\n        import fast\n    except ImportError:\n"
    "        import helper",
}


def processes(codes: dict[Path, str]) -> list[str]:
    """Run a process in each folder that imports `net`, and then this code on its cache.

    Return what they print.
    """
    command = [
        sys.executable,
        "-c",
        PROCESSES,
        json.dumps({str(folder): code for folder, code in codes.items()}),
    ]
    return subprocess.check_output(command, text=True).split()


@pytest.fixture
def project(tmp_path):
    def made(name: str, net: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file, text in {"helper": "factor = 1\n", "unused": "factor = 1\n", "net": net}.items():
            (folder / f"{file}.py").write_text(text)
        return folder

    return made


def test_an_entry_is_used_until_code_behind_it_changes(project):
    folders = [project(way, net) for way, net in NETS.items()]
    processes(dict.fromkeys(folders, STORE))
    for folder in folders:
        (folder / "unused.py").write_text("factor = 22\n")
    assert processes(dict.fromkeys(folders, LOAD)) == ["True"] * len(NETS)
    for folder in folders:
        (folder / ("fast.py" if folder.name == "optional" else "helper.py")).write_text(
            "factor = 22\n"
        )
    assert dict(zip(NETS, processes(dict.fromkeys(folders, LOAD)), strict=True)) == dict.fromkeys(
        NETS, "False"
    )


def test_code_that_changes_after_its_import_leaves_nothing(project):
    """The process has run the old code, and the file on disk is the new one."""
    once, twice = (project(name, NETS["import"]) for name in ("once", "twice"))
    change = "net.predict(); Path('helper.py').write_text('factor = 22')\n"
    again = "import importlib, helper; os.utime('helper.py', (1, 1)); importlib.reload(helper)\n"
    processes({once: change + STORE, twice: change + again + STORE})
    assert processes(dict.fromkeys((once, twice), LOAD)) == ["False", "False"]


def test_code_before_its_import_counts_as_on_disk(project):
    """Another process has not imported the helper yet when it asks for the entry."""
    folder = project("lazily", NETS["imported-lazily"])
    processes({folder: STORE})
    (folder / "net.py").write_text(NETS["imported-lazily"] + "\n")
    processes({folder: STORE})
    assert processes({folder: ASK}) == ["True"]
    (folder / "helper.py").write_text("factor = 22\n")
    assert processes({folder: ASK}) == ["False"]


def test_what_cannot_be_read_or_differs_counts_as_changed(tmp_path, monkeypatch):
    (code := tmp_path / "code.py").write_text("x = 1\n")
    imports.include({str(code): imports.digest(str(code))})
    assert imports.unchanged(before := imports.files())
    imports.include({str(code): "0" * 64})
    assert imports.ran()[str(code)] == imports.CHANGED
    assert not imports.unchanged(before)
    assert not imports.unchanged(imports.files())
    os.mkfifo(tmp_path / "pipe.py")
    assert not imports.unchanged({str(tmp_path / "pipe.py"): "0" * 64})
    cache = Store(tmp_path)
    monkeypatch.setattr(imports, "files", lambda: None)
    cache.store(KEY, np.ones(2))
    assert cache.load(KEY, (2,)) is None


def test_a_package_that_is_installed_again_from_a_folder_counts(tmp_path):
    """Its version may stay the same."""
    site = tmp_path / "lib/site-packages"
    info = site / "shop-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "direct_url.json").write_text("{}")
    (info / "RECORD").write_text("shop/net.py,sha256=a,1\n")
    code = textwrap.dedent(f"""
        import sys
        sys.path.append({str(site)!r})
        from harness.base import imports
        print({str(info / "RECORD")!r} in imports.files())
    """)
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "True"


def test_modules_without_python_code_count_also_in_the_place_of_another(tmp_path, monkeypatch):
    """As compiled ones, whose import nothing tells of."""
    for name in ("one.so", "two.so"):
        (tmp_path / name).write_bytes(b"code")
        assert str(tmp_path / name) not in imports.files()
        monkeypatch.setitem(sys.modules, "compiled", module := ModuleType("compiled"))
        module.__file__ = str(tmp_path / name)
        assert str(tmp_path / name) in imports.files()
