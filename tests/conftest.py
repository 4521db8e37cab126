"""What several tests share: small real notebooks, and what the runner does with them."""

import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from helpers import runs

PUBLISHED = sorted(runs.ROOT.glob("notebooks/*.ipynb"))


def pytest_collection_modifyitems(items):
    """Order the tests for two processes at once, each of which is given half of the list: slow ones come
    first in either half, and whichever process is done takes quick ones from the end of the other's.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    half = len(items) // 2 - len(slow[::2])
    items[:] = [*slow[::2], *quick[:half], *slow[1::2], *quick[half:]]


def write_notebook(path, *cells, parameters="epochs: int = 1  # passes"):
    """A notebook with a parameters cell, followed by code cells."""
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = new_notebook(cells=[tagged, *map(new_code_cell, cells)], metadata={"kernelspec": kernel})
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, path)
    return path


def execute(notebook, folder, environment, *words, figure="image/png"):
    """Run a notebook in a fresh kernel: status, last line of error, what it said, number of figures."""
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", notebook, "out.ipynb", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    cells = nbformat.read(folder / "out.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    figures = [output for output in outputs if figure in output.get("data", {})]
    return done.returncode, done.stderr.rstrip().splitlines()[-1:], said, len(figures)


@pytest.fixture
def notebook(tmp_path):
    """Write a notebook in a folder of the test's own: notebook("name", "print(1)") -> its path."""
    return lambda name, *cells, **options: write_notebook(tmp_path / f"{name}.ipynb", *cells, **options)


@pytest.fixture
def first_cell():
    """The code cell that all published notebooks begin with."""
    cells = nbformat.read(PUBLISHED[0], as_version=4).cells
    return next(cell.source for cell in cells if cell.cell_type == "code")
