"""Figures of pixels and their statistics: like those of `plots`, each takes evidence and returns a Figure."""

import numpy as np
from matplotlib.ticker import FuncFormatter

from helpers.plots import BLUE, FAINT, GREEN, INK, STYLE, VERMILLION, Figure, styled

CHANNELS = {"red": VERMILLION, "green": GREEN, "blue": BLUE}
MIDDLE = (50, 150)  # levels that the histograms shade
GAP = 2  # white pixels between images
NAME_INCHES, TITLE_INCHES = 0.9, 0.25


@styled
def class_counts(fifths, classes):
    """Images of each class in each fifth of the training images, which are CIFAR-10's five batches."""
    fifths = np.asarray(fifths)
    figure = Figure(figsize=(8, 0.32 * len(classes) + 1.2), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(classes))[::-1]
    even = fifths.sum() / fifths.size
    axes.axvline(even, color=FAINT, linewidth=1)
    axes.annotate(f"even: {even:,.0f}", (even, 1), (4, 3), xycoords=("data", "axes fraction"),
                  textcoords="offset points", color=FAINT, fontsize=9)  # fmt: skip
    axes.hlines(rows, fifths.min(axis=0), fifths.max(axis=0), color="#C8C8C8", linewidth=3, zorder=1)
    for number, counts in enumerate(fifths, start=1):
        for count, row in zip(counts, rows):
            axes.plot(count, row, "o", color="white", markeredgecolor=BLUE, markersize=13)
            axes.annotate(number, (count, row), ha="center", va="center", fontsize=8, color=BLUE)
    axes.set_yticks(rows, classes)
    axes.set(
        xlabel="Images of the class in each fifth of the training images", ylim=(-0.7, len(classes) - 0.3)
    )
    axes.spines["left"].set_visible(False)
    return figure


@styled
def mosaic(rows, names=None, titles=None, scale=2):
    """Rows of images of one size; `names` stand left of the rows, `titles` above the columns.

    `scale` is how many dots a pixel takes each way: a whole number, so that all are of one size.
    """
    height, width = rows[0][0].shape[:2]
    columns = max(map(len, rows))
    white = np.full_like(rows[0][0], 255)
    rows = [[*row, *[white] * (columns - len(row))] for row in rows]
    padded = [[np.pad(i, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for i in row] for row in rows]
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in padded])
    wide, high = (scale * pixels / STYLE["savefig.dpi"] for pixels in (sheet.shape[1], len(sheet)))
    left, top = NAME_INCHES * bool(names), TITLE_INCHES * bool(titles)
    figure = Figure(figsize=(left + wide, high + top))
    axes = figure.add_axes((left / (left + wide), 0, wide / (left + wide), high / (high + top)))
    axes.imshow(sheet, interpolation="nearest")
    axes.set_yticks((height + GAP) * np.arange(len(rows)) + height / 2, names or [""] * len(rows))
    axes.set_xticks((width + GAP) * np.arange(columns) + width / 2, titles or [""] * columns, fontsize=8)
    axes.xaxis.tick_top()
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure


@styled
def histograms(counts):
    """Share of each level, of all channels together and one by one; the middle levels are shaded."""
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    together, apart = figure.subplots(1, 2, sharey=True)
    together.fill_between(range(256), shares.mean(axis=0), step="mid", color=FAINT, alpha=0.6, linewidth=0)
    together.set(title="All channels", ylabel="Share of pixels a level (%)")
    for (name, colour), share in zip(CHANNELS.items(), shares):
        apart.step(range(256), share, where="mid", color=colour, linewidth=1.2, label=name)
    apart.legend(frameon=False)
    apart.set_title("Each channel")
    for axes in (together, apart):
        axes.axvspan(*MIDDLE, color="#F0E442", alpha=0.18, linewidth=0)
        axes.set(xlabel="Level (0 dark, 255 bright)", xlim=(0, 255), xticks=[0, 50, 100, 150, 200, 255])
    return figure


@styled
def light(brightness, contrast, classes):
    """For each class the middle 50 % (thick) and 90 % (thin) of its images, and their median."""
    figure = Figure(figsize=(11, 0.32 * len(classes) + 1.1), layout="constrained")
    rows = np.arange(len(classes))[::-1]
    panels = zip(figure.subplots(1, 2, sharey=True), (brightness, contrast), ("Brightness", "Contrast"))
    for axes, values, name in panels:
        lowest, low, middle, high, highest = np.transpose(values["quantiles"])
        axes.hlines(rows, lowest, highest, color=BLUE, linewidth=1)
        axes.hlines(rows, low, high, color=BLUE, linewidth=6, alpha=0.45)
        axes.plot(middle, rows, "o", color=BLUE, markersize=6)
        axes.set(title=f"{name}: {values['between_classes']:.0%} of its variance lies between classes")
        axes.set_yticks(rows, classes)
        axes.spines["left"].set_visible(False)
    figure.axes[0].set_xlabel("Mean of an image's luma (levels)")
    figure.axes[1].set_xlabel("Standard deviation of an image's luma (levels)")
    return figure


@styled
def similarity(copies, control, threshold):
    """How similar test images are to their nearest training image, upright and, as a control, upside down."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    bins = np.linspace(min(copies.min(), control.min()), 1, 60)
    for values, colour, name in ((control, FAINT, "upside down (control)"), (copies, BLUE, "upright")):
        weights = np.full(len(values), 1 / len(values))
        axes.hist(values, bins, weights=weights, color=colour, histtype="step", linewidth=1.8, label=name)
    axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (3, 2)))
    axes.annotate(f"threshold {threshold:.2f}", (threshold, 1), (4, -10), color=INK, fontsize=9,
                  xycoords=("data", "axes fraction"), textcoords="offset points")  # fmt: skip
    axes.set(yscale="log", xlabel="Similarity to the nearest training image (cosine)", xlim=(None, 1))
    axes.set_ylabel("Share of test images (log scale)")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.2%}"))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0.32, 1))
    return figure
