"""The walkthrough runs from top to bottom, and is committed with what it printed and drew.

Run by `pytest tests -m notebook`; needs the extra `notebook`.
"""

from pathlib import Path

import pytest

pytestmark = pytest.mark.notebook
WALKTHROUGH = Path(__file__).parents[2] / "notebooks/walkthrough.ipynb"


@pytest.fixture
def notebook():
    nbformat = pytest.importorskip("nbformat", reason="no nbformat: pip install '.[notebook]'")
    return nbformat.read(WALKTHROUGH, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(cell) -> str:
    return "\n".join(
        output.get("text") or output.data.get("text/markdown", "") for output in cell.outputs
    )


@pytest.mark.filterwarnings("default")  # Jupyter's own.
def test_it_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="no nbclient: pip install '.[notebook]'")
    pytest.importorskip("ipykernel", reason="no ipykernel: pip install '.[notebook]'")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(
        "OMP_NUM_THREADS", "1"
    )  # More wait for each other beside other tests, and keep cores busy.
    (config,) = [cell for cell in code_cells(notebook) if cell.source.startswith("FULL = True")]
    config.source = config.source.replace("FULL = True", "FULL = False", 1)
    for cell in code_cells(notebook):
        cell.outputs = []
    place = {"metadata": {"path": str(WALKTHROUGH.parent)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    outputs = [said(cell) for cell in code_cells(notebook)]
    assert "300 test images, 10 classes" in outputs[2]
    verdicts = [text for text in outputs if text.startswith("exit status")]
    assert [text.splitlines()[0] for text in verdicts] == ["exit status 0", "exit status 1"], (
        verdicts
    )
    assert "PARTIAL: " in verdicts[0]
    assert outputs[-1].count("| yes |") + outputs[-1].count("| **no** |") == 7


def test_it_is_committed_with_the_full_outputs_and_small(notebook):
    assert WALKTHROUGH.stat().st_size < 1_000_000
    cells = code_cells(notebook)
    assert "10000 test images" in said(cells[2])
    assert all(cell.outputs for cell in cells[2:])
    assert not [
        output for cell in cells for output in cell.outputs if output.output_type == "error"
    ]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), (
        "run once, in order"
    )


def test_its_outputs_name_no_place_on_a_machine(notebook):
    text = "\n".join(said(cell) for cell in code_cells(notebook))
    assert not [name for name in ("/home/", "/root/", "/tmp/", "/Users/") if name in text]
