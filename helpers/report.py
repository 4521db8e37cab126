"""Evidence as people read it: README's table and picture, and the tables of notebooks.

    python -m helpers.report     # what `make results` runs: renews README.md and its picture from results/

Every function takes records, the contents of record.json files; nothing here is measured or typed in by hand.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers import evaluation, files, plots, runs
from helpers.evaluation import mean_and_deviation

# The systems of README's table and of the comparison, and what they are called, in the order of their rows.
# What else is published (probes, trials, ablations) is told of by its notebook only.
SYSTEMS = {
    "baseline-naive": "Naive CNN",
    "baseline-pooling": "CNN + pooling",
    "baseline-dropout": "CNN + dropout",
    "baseline-batchnorm": "CNN + batch normalisation",
    "baseline-stages": "CNN + staged learning rate",
    "baseline-fast": "Fast CNN",
    "vgg16-recipe": "VGG16 frozen, as usual",
    "vgg16-frozen": "VGG16 frozen, computed once",
    "vgg16-block5": "VGG16 fine-tuned, block 5",
    "vgg16-fine-tuned": "VGG16 fine-tuned, all",
    "vgg16-scratch": "VGG16 from scratch",
    "vgg16-scratch-long": "VGG16 from scratch, longer",
    "resnet50-as-usual": "ResNet50 frozen, as usual",
    "resnet50-frozen": "ResNet50 frozen, put right",
    "resnet50-deep-head": "ResNet50 frozen, deeper head",
    "resnet50-last-stage": "ResNet50 fine-tuned, last stage",
    "resnet50-fine-tuned": "ResNet50 fine-tuned, all",
    "mobilenetv2-frozen": "MobileNetV2 frozen",
    "mobilenetv2-last-blocks": "MobileNetV2 fine-tuned, last blocks",
    "mobilenetv2-fine-tuned": "MobileNetV2 fine-tuned, all",
}
WHOLE = runs.PUBLISHED_SIZES["cifar10"][0]  # training images of the whole of CIFAR-10
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
NO_RESULTS = "No results are published yet: `make reproduce` trains, `make publish` copies the evidence here."
PICTURE = "accuracy-vs-cost.png"
SOURCES = {"imagenet": "ImageNet", "tiny-imagenet": "Tiny-ImageNet"}
CAPTION = (
    "Mean ± standard deviation over seeds, their number in brackets; fewer than three are provisional. Rows "
    "closer than their noise are not ranked. Where a single view is given, the other columns average the "
    "probabilities over several views of each test image. ECE: expected gap of confidence and accuracy. "
    "As usual: wired as is common; put right: preprocessed and scaled as the source weights know it; "
    "computed once: the frozen part's outputs are kept; longer: for as much computing as fine-tuning and its "
    "source weights together. Source weights from Tiny-ImageNet were trained here. "
    "PFLOP and seconds, medians over seeds, are of one network's training, the stages that it began with "
    "included; what its source weights have cost is not in them."
)


def read_records():
    """The published records of the systems' runs."""
    records = [files.read_json(path) for path in sorted(runs.RESULTS.rglob("record.json"))]
    return sorted((record for record in records if record["experiment"] in SYSTEMS), key=_order)


def _order(record):
    known = list(SYSTEMS)
    name = record["experiment"]
    return known.index(name) if name in known else len(known), name, record["fingerprint"], record["seed"]


def by_system(records):
    """{name: records of its seeds}; an experiment at other parameters stands apart by its fingerprint."""
    groups = {}
    for record in sorted(records, key=_order):
        groups.setdefault((record["experiment"], record["fingerprint"]), []).append(record)
    experiments = [experiment for experiment, _ in groups]
    return {
        SYSTEMS.get(name, name) + (f" ({fingerprint})" if experiments.count(name) > 1 else ""): group
        for (name, fingerprint), group in groups.items()
    }


def results_table(records=None):
    """One row of numbers for each system: accuracies in percent, the rest in the units of the records."""
    groups = by_system(read_records() if records is None else records)
    return pd.DataFrame([_row(system, group) for system, group in groups.items()])


def _row(system, records):
    result = evaluation.summary(records)
    averaged = "test_single_view" in records[0]  # then `test` is the mean over the views
    single = evaluation.summary(records, "test_single_view") if averaged else {"mean": np.nan, "std": np.nan}
    measured = [record["measured"] for record in records]
    return {
        "system": system,
        "source": _source(records[0]["source_weights"]),
        "seeds": result["n"],
        "accuracy": result["mean"],
        "accuracy_std": result["std"],
        "validation": evaluation.summary(records, "validation")["mean"],
        "single_view": single["mean"],
        "single_view_std": single["std"],
        "macro_f1": np.mean([record["test"]["macro_f1"] for record in records]),
        "ece": np.mean([record["test"]["ece"] for record in records]),
        "parameters_trained": records[0]["parameters_trained"],
        "parameters_total": records[0]["parameters_total"],
        **pd.DataFrame(map(evaluation.cost, records)).median(),
        "device": "; ".join(sorted({run["device"] for run in measured})),
        "data": data_label(records[0]["data"]),
    }


def _source(weights):
    return SOURCES.get(weights["name"], weights["name"]) if weights else "none"


def data_label(data):
    """What a run was trained on, in words that can't be mistaken for the whole CIFAR-10."""
    if data["name"] == "sample":
        return f"built-in sample, {data['train']:,} images"
    if data["name"] != "cifar10":
        return f"{data['name'].removeprefix('folder:')}, {data['train']:,} images"
    changed = "" if data["published"] else ", changed pixels"
    part = "" if data["train"] == WHOLE else f", {data['train']:,} of {WHOLE:,} training images"
    return f"CIFAR-10{changed}{part}"


def formatted(table, with_data=False):
    """The table as text with units in its head, for README, notebooks and the console."""
    rows = list(table.itertuples())
    text = pd.DataFrame(
        {
            "System": [row.system for row in rows],
            "Source weights": [row.source for row in rows],
            "Test accuracy (%)": [accuracy(row) for row in rows],
            "Single view (%)": [mean_and_deviation(row.single_view, row.single_view_std) for row in rows],
            "Macro F1 (%)": [f"{100 * row.macro_f1:.2f}" for row in rows],
            "ECE (%)": [f"{100 * row.ece:.2f}" for row in rows],
            "Parameters trained": [f"{row.parameters_trained:,}" for row in rows],
            "PFLOP": [f"{row.train_pflop:.3g}" for row in rows],
            "Seconds": [f"{row.train_seconds:,.0f}" for row in rows],
            "Device": [row.device for row in rows],
        }
    )
    return text.assign(Data=[row.data for row in rows]) if with_data else text


def of_runs(systems):
    """The results of {name: run}, all seeds of each, as text."""
    return formatted(results_table([record for run in systems.values() for record in run.seeds()]))


def side_by_name(groups, name):
    """A row for each {what it is called: records of its seeds}: runs that are variants of one system."""
    rows = [formatted(results_table(records)) for records in groups.values()]
    table = pd.concat(rows).set_index(pd.Index(groups, name=name)).drop(columns=["System", "Source weights"])
    return table.loc[:, (table != "").any()]


def accuracy(row):
    return f"{mean_and_deviation(row.accuracy, row.accuracy_std)} ({_seeds(row)})"


def _seeds(row):
    return f"{row.seeds}" if row.seeds >= plots.ENOUGH_SEEDS else f"{row.seeds}, provisional"


def markdown_table():
    """The results as a Markdown table, or one line that says how to get some."""
    table = results_table()
    if table.empty:
        return NO_RESULTS
    return markdown(formatted(table), words=("System", "Source weights", "Device"))


def markdown(text, words):
    """A table of text in Markdown; the columns that hold words stand to the left, numbers to the right."""
    rule = ["---" if column in words else "---:" for column in text.columns]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (text.columns, rule, *text.to_numpy()))


def headline(records=None):
    """The claim that README opens with: the best on validation images, of three seeds where there are any."""
    rows = results_table(records).itertuples()
    best = max(rows, key=lambda row: (row.seeds >= plots.ENOUGH_SEEDS, row.validation))
    single = mean_and_deviation(best.single_view, best.single_view_std)
    views = f"; averaged over several views of each, {single} % from one" if single else ""
    return (
        f"**{mean_and_deviation(best.accuracy, best.accuracy_std)} % of the CIFAR-10 test images right** "
        f"({best.system}; source weights: {best.source}; seeds: {_seeds(best)}{views})."
    )


def readme_block():
    """All that stands between README's markers."""
    table = markdown_table()
    if table == NO_RESULTS:
        return table
    picture = f"![Test accuracy against training cost](results/{PICTURE})"
    return "\n\n".join((headline(), table, CAPTION, picture))


def update_readme(path=None):
    """Renew what stands between README's markers."""
    path = runs.ROOT / "README.md" if path is None else Path(path)
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{path} must hold the lines {BEGIN} and {END} once: the results go between them")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    renewed = f"{before}{BEGIN}\n{readme_block()}\n{after}"
    files.write_whole(path, lambda part: part.write_text(renewed, encoding="utf-8"))


def draw_picture():
    """README's picture; the table that it shows is written into the file, so that a stale one can be told."""
    content = plots.png(plots.accuracy_vs_cost(by_system(read_records())), Description=markdown_table())
    files.write_whole(runs.RESULTS / PICTURE, lambda part: part.write_bytes(content))


def line(records):
    """One system's results in a line, for a notebook."""
    row = next(results_table(records).itertuples())
    learned = evaluation.summary(records, "train")
    return (
        f"{row.system}: test {accuracy(row)}, training images {learned['mean']:.2f} %, "
        f"{row.train_pflop:.3g} PFLOP, {row.train_seconds:,.0f} s"
    )


def main():
    if read_records():
        draw_picture()
        print(f"wrote {runs.RESULTS / PICTURE}")
    update_readme()
    print(f"wrote the results table of {runs.ROOT / 'README.md'}")


if __name__ == "__main__":
    main()
