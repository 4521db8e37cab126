"""Figures of evidence: each function takes records or arrays and returns a Figure.

Nothing is shown, saved or set for other figures. Colours are Okabe and Ito's, which colour-blind readers tell
apart; series are labelled at the line or point, or have marks of their own, so that no legend has to be
matched by colour alone.
"""

import io
from itertools import cycle, product

import matplotlib
import matplotlib.figure
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from helpers import evaluation

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)  # without yellow: too faint on white
INK, FAINT = "#333333", "#8A8A8A"
COSTS = {
    "train_pflop": "Training cost of one network, earlier stages included (PFLOP, log scale)",
    "train_seconds": "Training time of one network, earlier stages included (seconds, log scale)",
}
MISTAKES_A_ROW = 8
ENOUGH_SEEDS = 3  # fewer are provisional
ACCURACY_TICKS = (10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 92, 94, 95, 96, 97, 98, 99, 99.5, 99.9)
SIDES = (  # where a point's name may stand, the best first: offset in points, alignments
    ((9, 0), "left", "center"), ((-9, 0), "right", "center"),
    ((0, 6), "center", "bottom"), ((0, -6), "center", "top"),
    ((9, -12), "left", "top"), ((-9, -12), "right", "top"),
    ((9, 12), "left", "bottom"), ((-9, 12), "right", "bottom"),
)  # fmt: skip
DISTANCES = (1, 2.5, 4, 6, 8)  # times these offsets, where it is crowded
BACKGROUND = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # hides leaders that pass below
LEADER = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
STYLE = {
    "figure.dpi": 110, "savefig.dpi": 110, "figure.facecolor": "white", "axes.facecolor": "white",
    "font.family": "sans-serif", "font.size": 10, "axes.titlesize": 11, "axes.titlelocation": "left",
    "axes.titleweight": "bold", "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": FAINT,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#E6E6E6", "grid.linewidth": 0.7,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "lines.linewidth": 1.8,
}  # fmt: skip
styled = matplotlib.rc_context(STYLE)


class Figure(matplotlib.figure.Figure):
    """A figure that a notebook shows once, as a cell's value, without pyplot's list of open figures."""

    def _repr_png_(self):
        return png(self)


def png(figure, **texts):
    """The figure as the bytes of a PNG file; where it has 256 colours at most, a quarter as large."""
    drawn, written, told = io.BytesIO(), io.BytesIO(), PngInfo()
    figure.savefig(drawn, format="png", dpi=STYLE["savefig.dpi"])
    image = Image.open(drawn).convert("RGB")
    for name, text in texts.items():
        told.add_text(name, text)
    (image.quantize(256) if image.getcolors(256) else image).save(written, "png", pnginfo=told, optimize=True)
    return written.getvalue()


@styled
def learning_curves(runs, highest_loss=None):
    """Accuracy and loss by epoch of {label: records}: mean over seeds, the band is their range."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, quantity, unit in zip(figure.subplots(1, 2), ("accuracy", "loss"), (100, 1), strict=True):
        ends = []
        for (label, records), colour in zip(runs.items(), cycle(COLOURS)):
            histories = pd.concat(pd.DataFrame(record["history"]) for record in records)
            ends.append((label, colour, *_curves(axes, histories, len(records), quantity, unit, colour)))
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if quantity == "loss":
            axes.set_ylim(0, highest_loss)  # before the labels, which stand at shares of the axis
        _label_ends(axes, ends)
    accuracy, loss = figure.axes
    accuracy.set(title="Accuracy", ylabel="Accuracy (%)")
    loss.set(title="Loss", ylabel="Cross-entropy (nats)")
    told = "solid: validation, dashed with hollow end: training; band: range over seeds"
    if any(len({len(record["history"]) for record in records}) > 1 for records in runs.values()):
        told += ", up to where the first of them stopped"
    figure.supxlabel(told, fontsize=9, color=FAINT)
    return figure


def _curves(axes, histories, seeds, quantity, unit, colour):
    """Draw one label's two curves; the last validation point is returned for its label."""
    by_epoch = histories.groupby("epoch")
    # Where early stopping ended some seeds sooner, the mean ends with the first of them.
    common = by_epoch.size() == seeds
    mean, low, high = (unit * frame[common] for frame in (by_epoch.mean(), by_epoch.min(), by_epoch.max()))
    train, validation = f"train_{quantity}", f"validation_{quantity}"
    axes.plot(mean.index, mean[train], color=colour, linestyle=(0, (3, 2)), linewidth=1, alpha=0.8)
    axes.fill_between(mean.index, low[validation], high[validation], color=colour, alpha=0.18, linewidth=0)
    axes.plot(mean.index, mean[validation], color=colour)
    for series, fill in ((train, "white"), (validation, colour)):
        last = mean[series].iloc[-1:]
        axes.plot(last.index, last, "o", color=colour, ms=4, mfc=fill, clip_on=False, zorder=3)
    return mean.index[-1], mean[validation].iloc[-1]


@styled
def accuracy_by_cost(runs, aside=None, lowest=None):
    """Validation accuracy of {label: records} along the PFLOP that were spent, earlier stages included; the
    mean over seeds. `aside` is what else a label's networks have cost before. Curves begin at `lowest`.
    """
    figure, aside = Figure(figsize=(9, 4.6), layout="constrained"), aside or {}
    axes = figure.subplots()
    for (label, records), colour, marker in zip(runs.items(), cycle(COLOURS), cycle("os^D")):
        accuracy = [[line["validation_accuracy"] for line in record["history"]] for record in records]
        accuracy = 100 * np.mean(accuracy, axis=0)
        end = aside.get(label, 0) + evaluation.cost(records[0])["train_pflop"]
        spent = np.linspace(end - records[0]["train_pflop"], end, len(accuracy) + 1)[1:]
        axes.plot(spent, accuracy, f"{marker}-", color=colour, ms=5, label=label)
    axes.set(xlabel="Spent so far, earlier stages included (PFLOP)", ylabel="Validation accuracy (%)")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=lowest)
    axes.legend(loc="lower right", frameon=False)
    figure.supxlabel("a point after each pass; the mean over seeds", fontsize=9, color=FAINT)
    return figure


def _label_ends(axes, ends):
    """Names in the right margin at the height of each curve's end, moved apart where they would overlap."""
    axes.set_xlim(0, max(epoch for *_, epoch, _ in ends))
    low, high = axes.get_ylim()
    ends = sorted(ends, key=lambda end: end[-1])
    heights = _apart([(value - low) / (high - low) for *_, value in ends], gap=0.052)
    leader = {"arrowstyle": "-", "linewidth": 0.6, "alpha": 0.6, "shrinkA": 1, "shrinkB": 0}
    for (label, colour, end, value), height in zip(ends, heights, strict=True):
        arrow = leader | {"color": colour}
        place = {"xytext": (1.03, height), "textcoords": "axes fraction", "va": "center"}
        axes.annotate(label, (end, value), **place, color=colour, arrowprops=arrow)


def _apart(positions, gap):
    """Ascending positions moved as little as possible so that neighbours are at least a gap apart."""
    blocks = []  # [centre, count]: labels that touch move as one block around their mean
    for position in positions:
        blocks.append([position, 1])
        while len(blocks) > 1 and blocks[-1][0] - blocks[-2][0] < gap * (blocks[-1][1] + blocks[-2][1]) / 2:
            (later, many), (earlier, few) = blocks.pop(), blocks.pop()
            blocks.append([(later * many + earlier * few) / (many + few), many + few])
    return [centre + gap * (i - (count - 1) / 2) for centre, count in blocks for i in range(count)]


@styled
def accuracies(runs):
    """Mean accuracy of {label: records}, a row each in the order given; bars are one standard deviation."""
    figure = Figure(figsize=(7.5, 0.38 * len(runs) + 1.1), layout="constrained")
    axes = figure.subplots()
    for row, records in enumerate(runs.values()):
        n, mean, std = evaluation.summary(records).values()
        fill = BLUE if n >= ENOUGH_SEEDS else "white"
        axes.errorbar(mean, row, xerr=np.nan_to_num(std), fmt="o", ms=7, mfc=fill, color=BLUE, capsize=3)
        text = f"{evaluation.mean_and_deviation(mean, std)} ({n})"
        axes.annotate(text, (1.02, row), xycoords=("axes fraction", "data"), va="center")
    axes.set_yticks(range(len(runs)), list(runs))
    axes.set(xlabel="Test accuracy (%)", ylim=(len(runs) - 0.5, -0.5))
    axes.margins(x=0.08)
    axes.spines["left"].set_visible(False)
    figure.supxlabel(
        f"in brackets: seeds; hollow: provisional, fewer than {ENOUGH_SEEDS}", fontsize=9, color=FAINT
    )
    return figure


@styled
def tried(record):
    """Validation accuracy of each of a record's trials; beside it what it is above the first one."""
    table, told = evaluation.tried(record), record["parameters"]
    figure = Figure(figsize=(9, 0.36 * len(table) + 1.2), layout="constrained")
    axes, places = figure.subplots(), np.arange(len(table))
    bounds = [evaluation.interval(row.correct, row.total) for row in table.itertuples()]
    axes.axvline(table["accuracy"].iloc[0], color=FAINT, linewidth=1, linestyle=(0, (3, 2)))
    axes.hlines(places, *(100 * np.transpose(bounds)), color=BLUE, linewidth=1.5)
    axes.plot(table["accuracy"], places, "o", color=BLUE, ms=6)
    for row in places:
        share, difference = table[["accuracy", "difference"]].iloc[row]
        text = f"{share:.1f}" + (f" ({difference:+.1f})" if row else "")
        axes.annotate(text, (1.02, row), xycoords=("axes fraction", "data"), va="center")
    axes.set_yticks(places, table.index)
    passes = max(len(history) for history in record["trials"].values())
    shown = f"{told['tried_images']:,} training images, passes over them: {passes}, seed {record['seed']}"
    axes.set(title=shown, ylim=(len(table) - 0.5, -0.5), xlabel="Validation accuracy (%)")
    axes.spines["left"].set_visible(False)
    figure.supxlabel("bars: 95 % intervals; dashed: the first row", fontsize=9, color=FAINT)
    return figure


@styled
def accuracy_vs_cost(runs, cost="train_pflop"):
    """Mean test accuracy of {label: records} against cost; bars are one standard deviation over seeds.

    The scale is that of the mistakes' logarithm: from 94 to 95 % is as hard a step as from 70 to 75.
    """
    costs = [np.median([evaluation.cost(record)[cost] for record in group]) for group in runs.values()]
    room = max(1.3, (max(costs) / min(costs)) ** 0.15)  # a factor, as the scale is logarithmic
    figure = Figure(figsize=(8, max(4.8, 0.46 * len(runs))), layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", xlabel=COSTS[cost], ylabel="Test accuracy (%, log scale of the mistakes)")
    axes.set_xlim(min(costs) / room, max(costs) * room)
    axes.set_yscale("function", functions=(_ease, _accuracy))
    axes.margins(y=0.12)
    points = []
    for (label, records), x in zip(runs.items(), costs, strict=True):
        n, y, std = evaluation.summary(records).values()
        fill = BLUE if n >= ENOUGH_SEEDS else "white"
        axes.errorbar(
            x, y, np.nan_to_num(std), fmt="o", ms=6, mfc=fill, color=BLUE, capsize=3, elinewidth=1.2
        )
        points.append((f"{label}  {evaluation.mean_and_deviation(y, std)}", x, y))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in ACCURACY_TICKS if low <= tick <= high])
    bars = f"bars: one standard deviation over seeds; hollow: provisional, fewer than {ENOUGH_SEEDS} seeds"
    scale = "as far as from 70 to 85 % it is from 85 to 92.5 %: half of the mistakes are gone"
    figure.supxlabel(f"{bars}\n{scale}", fontsize=9, color=FAINT)
    _label_points(axes, points)
    return figure


def _ease(accuracy):
    """How few mistakes an accuracy in percent leaves, as a logarithm; none count as one in 10,000."""
    return -np.log10(np.maximum(100 - np.asarray(accuracy), 0.01))


def _accuracy(ease):
    return 100 - 10 ** -np.asarray(ease)


def _label_points(axes, points):
    """Name each point at the nearest place where the name meets no other point or name."""
    axes.figure.draw_without_rendering()
    frame = axes.get_window_extent()
    taken = [Bbox.from_bounds(*(axes.transData.transform((x, y)) - 7), 14, 14) for _, x, y in points]
    for label, x, y in points:
        name = axes.annotate(label, (x, y), (0, 0), textcoords="offset points", fontsize=9, bbox=BACKGROUND)
        name.set_in_layout(False)  # a name that is tried outside would shrink the axes
        for distance, (offset, ha, va) in product(DISTANCES, SIDES):
            place = (distance * offset[0], distance * offset[1])
            name.set(position=place, ha=ha, va=va)
            box = name.get_window_extent()
            inside = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
            if inside and not box.count_overlaps(taken):
                break
        if distance > 1 or all(offset):  # not right beside its point
            axes.annotate("", (x, y), place, textcoords="offset points", arrowprops=LEADER, zorder=1)
        taken.append(box)


@styled
def confusion(matrix, classes):
    """Counts and percentages of each true class; mistakes have their own scale, or hits would drown them."""
    matrix = np.asarray(matrix)
    percent = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    hits = np.eye(len(matrix), dtype=bool)
    mistakes_at_most = max(percent[~hits].max(), 1)
    figure = Figure(figsize=(0.68 * len(classes) + 2, 0.6 * len(classes) + 1.4), layout="constrained")
    axes = figure.subplots()
    for hidden, colour, most in ((hits, VERMILLION, 1.6 * mistakes_at_most), (~hits, BLUE, 100)):
        shades = LinearSegmentedColormap.from_list("shades", ["white", colour])
        axes.imshow(np.ma.masked_where(hidden, percent), cmap=shades, vmin=0, vmax=most, aspect="auto")
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            share, dark = percent[row, column], row == column and percent[row, column] > 50
            colour = "white" if dark else INK
            axes.annotate(f"{count:,}", (column, row), color=colour, ha="center", va="bottom", fontsize=9)
            axes.annotate(f"{share:.1f} %", (column, row), (0, -3), textcoords="offset points", color=colour,
                          ha="center", va="top", fontsize=7)  # fmt: skip
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, classes)
    axes.set(xlabel="Predicted class", ylabel="True class")
    axes.set_title(f"{matrix[hits].sum():,} of {matrix.sum():,} right; percentages of each true class")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure


@styled
def per_class(matrix, classes):
    """Precision, recall and F1 of every class, the best class on top."""
    table = 100 * evaluation.per_class(matrix, classes)[["precision", "recall", "f1"]].sort_values("f1")
    figure = Figure(figsize=(7.5, 0.34 * len(table) + 1.5), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(table))
    axes.hlines(rows, table.min(axis=1), table.max(axis=1), color="#C8C8C8", linewidth=3, zorder=1)
    axes.plot(table["precision"], rows, "o", color=SKY, markersize=8, label="precision")
    axes.plot(table["recall"], rows, "D", color=ORANGE, markersize=6.5, label="recall")
    axes.plot(table["f1"], rows, "|", color=BLACK, markersize=13, markeredgewidth=2, label="F1, at the right")
    axes.set_yticks(rows, table.index)
    axes.set(xlabel="Precision, recall and F1 (%)", ylim=(-0.6, len(table) - 0.4))
    for row, f1 in enumerate(table["f1"]):
        axes.annotate(f"{f1:.1f}", (1.02, row), xycoords=("axes fraction", "data"), va="center")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, handletextpad=0.2)
    axes.spines["left"].set_visible(False)
    return figure


@styled
def mistakes(images, labels, predicted, classes, confidence, shown=24, title=None):
    """Wrongly classified images, the surest first, each with both its classes."""
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    wrong = np.flatnonzero(labels != predicted)
    wrong = wrong[np.argsort(-np.asarray(confidence)[wrong], kind="stable")][:shown]
    rows, columns = max(1, -(-len(wrong) // MISTAKES_A_ROW)), MISTAKES_A_ROW
    figure = Figure(figsize=(1.32 * columns, 1.72 * rows + 0.4), layout="constrained")
    title = title or f"{(labels != predicted).sum():,} of {len(labels):,} wrong"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, index in zip(grid, wrong, strict=False):
        axes.imshow(images[index], interpolation="nearest")
        said, true = classes[predicted[index]], classes[labels[index]]
        axes.set_title(
            f"{said} {100 * confidence[index]:.0f} %\n", color=VERMILLION, fontsize=9, loc="center", pad=2
        )
        axes.text(0.5, 1.03, f"label: {true}", transform=axes.transAxes, ha="center", fontsize=9)
    return figure
