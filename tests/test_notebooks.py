"""What every committed notebook must be: executed in order, clean, small, and with the same beginning."""

import ast
import io
import re
import tokenize
import tomllib

import nbformat
import pytest
import yaml

from helpers import runs

EXPERIMENTS = sorted(runs.ROOT.glob("notebooks/*.ipynb"))
NOTEBOOKS = EXPERIMENTS + sorted(runs.ROOT.glob("example-to-use/*.ipynb"))
IN_ALL_EXPERIMENTS = {"data", "train_images", "seed", "gpu", "retrain"}
ADDRESS = tomllib.loads((runs.ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
MEGABYTE = 1_000_000


def name_of(value):
    return value.stem if hasattr(value, "stem") else None


in_each = pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
in_each_experiment = pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def parameters_cell(path):
    (cell,) = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    return cell.source


def declared(path):
    """{name: (annotation, value)} of the parameters; anything but typed literals fails here."""
    statements = ast.parse(parameters_cell(path)).body
    return {node.target.id: (node.annotation.id, ast.literal_eval(node.value)) for node in statements}


@in_each
def test_was_executed_in_order(path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@in_each
def test_shows_no_errors_and_no_warnings(path):
    for output in (output for cell in code_cells(path) for output in cell.outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        assert not re.search(r"\w*Warning:", output.get("text", "")), output.text


@in_each
def test_is_small_and_valid_and_bears_no_trace_of_its_tools(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < MEGABYTE
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3" and "version" not in notebook.metadata.language_info
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}


@in_each
def test_begins_like_all_others(path):
    assert code_cells(path)[0].source == code_cells(NOTEBOOKS[0])[0].source


def test_the_first_cell_clones_the_repository_that_pyproject_names():
    first = ast.parse(code_cells(NOTEBOOKS[0])[0].source)
    constants = [node.value for node in ast.walk(first) if isinstance(node, ast.Constant)]
    organisation, name = ADDRESS.rsplit("/", 1)
    assert f"{organisation}/" in constants and name in constants


@in_each
def test_opens_in_colab_by_its_badge(path):
    title = nbformat.read(path, as_version=4).cells[0].source
    place = (
        f"{ADDRESS.removeprefix('https://github.com/')}/blob/main/{path.relative_to(runs.ROOT).as_posix()}"
    )
    assert f"https://colab.research.google.com/github/{place}" in title


@in_each
def test_parameters_are_typed_literals_each_with_a_comment(path):
    for name, (annotation, value) in declared(path).items():
        assert type(value).__name__ == annotation, name
    tokens = tokenize.generate_tokens(io.StringIO(parameters_cell(path)).readline)
    commented = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    assert commented == {node.lineno for node in ast.parse(parameters_cell(path)).body}


@in_each_experiment
def test_some_parameters_are_everywhere(path):
    assert declared(path).keys() >= IN_ALL_EXPERIMENTS


@in_each
def test_every_parameter_is_used(path):
    source = "\n".join(cell.source for cell in code_cells(path))
    names = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
    assert declared(path).keys() <= {name.id for name in names if isinstance(name.ctx, ast.Load)}


def test_each_smoke_override_fits_a_notebook():
    overrides = yaml.safe_load((runs.ROOT / "notebooks" / "smoke.yaml").read_text())
    known = {name: annotation for path in EXPERIMENTS for name, (annotation, _) in declared(path).items()}
    assert {name: type(value).__name__ for name, value in overrides.items()}.items() <= known.items()
