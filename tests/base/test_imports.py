"""A kept result is used only while the user's code that made it is unchanged, however that code was loaded."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from harness.base import imports
from harness.base.cache import Store

KEY = "a" * 64
STORES = """
import sys
from pathlib import Path
import numpy as np
from harness.base.cache import Store
sys.path.insert(0, str(Path.cwd()))
import net
net.predict()
cache = Store(Path("cache"))
{code}
"""
STORE, LOAD = "cache.store('a' * 64, np.ones(2))", "print(cache.load('a' * 64, (2,)) is not None)"
NETS = {
    "import": "import helper\ndef predict(): pass",
    "imported-lazily": "def predict():\n    import helper",
    "imported-by-name": "import importlib\ndef predict():\n    importlib.import_module('help' + 'er')",
    "loaded-by-path": (
        "from importlib.util import module_from_spec, spec_from_file_location\ndef predict():\n"
        "    spec = spec_from_file_location('other', 'helper.py')\n    spec.loader.exec_module(module_from_spec(spec))"
    ),
    "run-by-path": "import runpy\ndef predict():\n    runpy.run_path('helper.py')",
    "compiled": "def predict():\n    exec(compile(open('helper.py').read(), 'helper.py', 'exec'), {})",
    "optional": "def predict():\n    try:\n        import fast\n    except ImportError:\n        import helper",
}


def process(folder: Path, code: str) -> str:
    """Run a process that imports and runs `net`, and then this code on the cache; return what it prints."""
    code = STORES.format(code=code)
    return subprocess.check_output([sys.executable, "-c", code], cwd=folder, text=True).strip()


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "helper.py").write_text("factor = 1\n")
    (folder / "unused.py").write_text("factor = 1\n")
    return folder


@pytest.mark.parametrize("way", NETS)
def test_an_entry_is_used_until_code_behind_it_changes(project, way):
    (project / "net.py").write_text(NETS[way])
    process(project, STORE)
    (project / "unused.py").write_text("factor = 22\n")
    assert process(project, LOAD) == "True"
    if way == "optional":
        (project / "fast.py").write_text("factor = 3\n")
    else:
        (project / "helper.py").write_text("factor = 22\n")
    assert process(project, LOAD) == "False"


@pytest.mark.parametrize("when", ["after-its-import", "twice"])
def test_code_that_changes_after_its_import_leaves_nothing(project, when):
    """The process has run the old code, and the file on disk is the new one."""
    (project / "net.py").write_text(NETS["import"])
    again = "import importlib, helper, os; os.utime('helper.py', (1, 1)); importlib.reload(helper)\n"
    change = "Path('helper.py').write_text('factor = 22')\n" + (again if when == "twice" else "")
    process(project, change + STORE)
    assert process(project, LOAD) == "False"


def test_code_before_its_import_counts_as_on_disk(project):
    """Another process has not imported the helper yet when it asks for the entry."""
    (project / "net.py").write_text(NETS["imported-lazily"])
    process(project, STORE)
    (project / "net.py").write_text(NETS["imported-lazily"] + "\n")
    process(project, STORE)
    code = STORES.format(code=LOAD).replace("net.predict()", "")
    assert subprocess.check_output([sys.executable, "-c", code], cwd=project, text=True).strip() == "True"
    (project / "helper.py").write_text("factor = 22\n")
    assert subprocess.check_output([sys.executable, "-c", code], cwd=project, text=True).strip() == "False"


def test_an_entry_without_files_a_pipe_and_files_that_differ_count_as_changed(tmp_path, monkeypatch):
    (code := tmp_path / "code.py").write_text("x = 1\n")
    imports.include({str(code): imports.digest(str(code))})
    assert imports.unchanged(before := imports.files())
    imports.include({str(code): "0" * 64})
    assert imports.ran()[str(code)] == imports.CHANGED
    assert not imports.unchanged(before)
    assert not imports.unchanged(imports.files())
    os.mkfifo(tmp_path / "code.py")
    assert not imports.unchanged({str(tmp_path / "code.py"): "0" * 64})
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
