"""Figures of systems beside one another: like those of `plots`, each takes evidence and returns a Figure."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, LogNorm

from helpers.plots import BLUE, FAINT, INK, SKY, VERMILLION, Figure, styled

DIFFERENCE = "Difference in test accuracy (points; beyond 1 a log scale) with its 95 % interval"
DIFFERENCE_TICKS = (-20, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 20, 50)


@styled
def differences(pairs, verdict="luck is ruled out"):
    """Each pair's difference with its interval, a row each: filled where the verdict is that."""
    figure = Figure(figsize=(9.5, 0.36 * len(pairs) + 1.3), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=FAINT, linewidth=1)
    for row, pair in enumerate(pairs.itertuples()):
        reach = [[pair.difference - pair.low], [pair.high - pair.difference]]
        colour = BLUE if pair.ranked else FAINT
        fill = colour if pair.apart else "white"
        axes.errorbar(pair.difference, row, xerr=reach, fmt="o", ms=7, color=colour, mfc=fill, capsize=3)
        text = f"{pair.difference:+.2f}  ({pair.low:+.2f} to {pair.high:+.2f})"
        axes.annotate(text, (1.02, row), xycoords=("axes fraction", "data"), va="center")
    axes.set_yticks(range(len(pairs)), pairs["first"] + "  over  " + pairs["second"])
    axes.set(xlabel=DIFFERENCE, ylim=(len(pairs) - 0.5, -0.5))
    axes.set_xscale("symlog", linthresh=1, linscale=1)  # tenths of a point beside tens of points
    low, high = min(0, pairs["low"].min()) - 0.1, 1.2 * max(1, pairs["high"].max())
    ticks = [tick for tick in DIFFERENCE_TICKS if low <= tick <= high]
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.spines["left"].set_visible(False)
    told = f"filled: {verdict}; hollow: it isn't; grey: too few seeds for a verdict"
    figure.supxlabel(told, fontsize=9, color=FAINT)
    return figure


@styled
def class_accuracies(table):
    """Percent right by system (rows) and class (columns); the darker, the more mistakes, on a log scale."""
    figure = Figure(figsize=(0.72 * len(table.columns) + 3, 0.34 * len(table) + 1), layout="constrained")
    axes = figure.subplots()
    mistakes = np.maximum(100 - table.to_numpy(), 0.1)
    shades = LinearSegmentedColormap.from_list("shades", ["white", VERMILLION])
    scale = LogNorm(mistakes.min(), max(3 * mistakes.max(), 1))  # even the darkest lets its number be read
    axes.imshow(mistakes, cmap=shades, norm=scale, aspect="auto")
    for (row, column), percent in np.ndenumerate(table.to_numpy()):
        axes.annotate(f"{percent:.1f}", (column, row), color=INK, ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(table.columns)), table.columns, rotation=30, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(table)), table.index)
    axes.xaxis.tick_top()
    axes.grid(False)
    axes.spines[:].set_visible(False)
    told = "percent of each class's test images that are right; darker: more mistakes, on a log scale"
    figure.supxlabel(told, fontsize=9, color=FAINT)
    return figure


@styled
def missed(table):
    """How many images all systems miss down to each row; the part whose label people doubt stands out."""
    figure = Figure(figsize=(8, 0.34 * len(table) + 1.3), layout="constrained")
    axes = figure.subplots()
    rows, height = range(len(table)), 0.62
    axes.barh(rows, table["missed"], height, color=SKY, label="missed")
    axes.barh(rows, table["doubted"], height, color=VERMILLION, label="of which raters doubt the label")
    for row, counts in enumerate(table.itertuples()):
        text = f"{counts.missed:,} ({counts.doubted:,} doubted)"
        axes.annotate(text, (counts.missed, row), (5, 0), textcoords="offset points", va="center", fontsize=9)
    labels = [name if row == 0 else f"and {name}" for row, name in enumerate(table.index)]
    axes.set_yticks(rows, labels)
    axes.set(xlabel="Test images that every network of these systems misses", ylim=(len(table) - 0.5, -0.5))
    axes.margins(x=0.18)
    axes.set_xlim(0, None)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    return figure
