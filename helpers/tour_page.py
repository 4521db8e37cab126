"""What `python train_model.py` leaves for a reader: published and just trained results side by side."""

import base64
import html
import os
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from helpers import files, plots, report

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: auto; padding: 2rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th { border-bottom: 2px solid #888; } th:first-child, td:first-child { text-align: left; }
.note { border-left: 4px solid #D55E00; background: #fdf3ec; padding: .6rem 1rem; }
.faint { color: #666; font-size: .9rem; } img { max-width: 100%; height: auto; }
"""


def side_by_side(published, trained):
    """Published accuracy beside that of runs on this machine, as text."""
    columns = ["Published: test accuracy (%)", "Trained here: test accuracy (%)", "Trained here on"]
    rows = {}
    for row in report.results_table(published).itertuples():
        rows[row.system] = [report.accuracy(row), "", ""]
    for row in report.results_table(trained).itertuples():
        rows.setdefault(row.system, ["", "", ""])[1:] = [report.accuracy(row), row.data]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table.rename_axis("System").reset_index()


def caution(trained):
    """What must be said before these runs are compared with the published ones; empty if they may be."""
    data = [record["data"] for record in trained]
    if any(source["name"] == "sample" for source in data):
        return (
            "What was trained here was trained and tested on the built-in sample, pictures drawn by a "
            "formula: these are not CIFAR-10 results."
        )
    if any(not source["published"] for source in data):
        return (
            "What was trained here was trained and tested on other pictures: these are not CIFAR-10 results."
        )
    if any(source["train"] < report.WHOLE for source in data):
        return (
            "What was trained here saw only a part of CIFAR-10, in training and in test: expect less of it."
        )
    return ""


def write(path, published, trained, notebooks=()):
    """One self-contained page: published and just trained results, figures, links to executed notebooks."""
    path = Path(path)
    sections = [
        ("Side by side", _html(side_by_side(published, trained))),
        ("Trained on this machine", _results_html(trained, "Nothing was trained.")),
        ("Published", _results_html(published, report.NO_RESULTS)),
        ("Executed notebooks", _links_html(notebooks, path.parent)),
    ]
    note = f'<p class="note">{html.escape(caution(trained))}</p>' if caution(trained) else ""
    body = "".join(f"<h2>{title}</h2>{content}" for title, content in sections)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>CIFAR-10: report</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><h1>Published and just trained</h1>{note}{body}</body></html>\n"
    )
    files.write_whole(path, lambda part: part.write_text(page, encoding="utf-8"))


def _results_html(records, otherwise):
    if not records:
        return f"<p>{html.escape(otherwise)}</p>"
    groups = report.by_system(records)
    figures = {
        "Learning curves": plots.learning_curves(groups),
        "Test accuracy against training cost": plots.accuracy_vs_cost(groups),
    }
    table = _html(report.formatted(report.results_table(records), with_data=True))
    images = "".join(_image_html(name, figure) for name, figure in figures.items())
    return f'{table}<p class="faint">{report.CAPTION}</p>{images}'


def _image_html(name, figure):
    content = base64.b64encode(plots.png(figure)).decode()
    return f'<p><img alt="{name}" src="data:image/png;base64,{content}"></p>'


def _html(table):
    return f'<div class="scroll">{table.to_html(index=False, border=0)}</div>'


def _links_html(notebooks, folder):
    if not notebooks:
        return "<p>None.</p>"
    items = ""
    for notebook in map(Path, notebooks):
        address = quote(Path(os.path.relpath(notebook, folder)).as_posix())
        items += f'<li><a href="{address}">{html.escape(notebook.name)}</a></li>'
    return f"<ul>{items}</ul>"
