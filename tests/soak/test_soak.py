"""Random runs of the gate against one promise.

`SOAK_RUNS=2000 pytest tests -m soak` is the nightly one.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from soak.oracle import violations
from soak.runner import Zygote, make_template, run
from soak.scenarios import PLUGINS, scenario

RUNS = int(os.environ.get("SOAK_RUNS", "12"))
FIRST = int(os.environ.get("SOAK_FIRST", "0"))
MODULES = (
    *(
        "torch",
        "torchvision",
        "numpy",
        "scipy",
        "matplotlib",
        "cv2",
        "PIL",
        "sklearn",
        "safetensors",
    ),
    *("pydantic", "jinja2", "markupsafe", "tomlkit", "click", "tqdm", "filelock", "platformdirs"),
    *("xdist", "hypothesis"),
)
"""Third-party modules that a run may import."""

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soak") / "template"
    make_template(folder)
    return folder


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """Install plugins of other projects where no other test sees them."""
    folder = tmp_path_factory.mktemp("plugins")
    names = [f"pytest-{name}" for name in PLUGINS if name != "cov"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(folder),
        *names,
    ]
    subprocess.run([*command, "termcolor"], check=True)
    return folder


def test_every_run_keeps_the_promise(template, plugins, tmp_path):
    """Exit status and reports agree, and 0 is a pass of the named bytes.

    No input changes, and nothing hangs.
    """
    counts: dict[object, int] = {}
    broken = {}

    def work(seeds):
        zygote = Zygote()
        for seed in seeds:
            drawn = scenario(seed, modules=MODULES)
            folder = tmp_path / f"run-{seed}"
            ended = run(drawn, template, folder, zygote, plugins=plugins if drawn.plugins else None)
            if found := violations(drawn, ended):
                broken[seed] = (
                    f"seed {seed}: {'; '.join(found)}\n  {drawn}\n{ended.output[-1_500:]}"
                )
            else:
                shutil.rmtree(folder)
                folder.with_suffix(".log").unlink(missing_ok=True)
            counts[ended.status] = counts.get(ended.status, 0) + 1
        zygote.close()

    seeds = range(FIRST, FIRST + RUNS)
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(work, [seeds[core::cores] for core in range(cores)]))
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(counts.items(), key=str))
    print(f"seeds {seeds.start} to {seeds.stop - 1}; exit statuses {statuses}")
    assert not broken, "\n\n".join(broken.values())
