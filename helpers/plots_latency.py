"""The figure of how fast networks answer."""

import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from helpers.plots import BLUE, Figure, styled


@styled
def latencies(rows):
    """Milliseconds a picture of each form, one panel a batch size; rows are those of latency.measure."""
    panels = list(pd.DataFrame(rows).groupby("batch_size"))
    forms = list(dict.fromkeys(row["form"] for row in rows))
    figure = Figure(figsize=(11, 0.34 * len(forms) + 1.3), layout="constrained")
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (batch_size, panel) in zip(grid, panels):
        found = panel.set_index("form")["milliseconds_a_picture"][forms]
        axes.plot(found, range(len(forms)), "o", color=BLUE, ms=7)
        for place, milliseconds in enumerate(found):
            text = f"{milliseconds:.3g}"
            axes.annotate(text, (milliseconds, place), (8, 0), textcoords="offset points", va="center")
        axes.set(xscale="log", xlabel="Milliseconds a picture (log scale)")
        axes.set_title("One picture at a time" if batch_size == 1 else f"{batch_size} pictures at a time")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.15)
        axes.spines["left"].set_visible(False)
    axes.set_yticks(range(len(forms)), forms)
    axes.set_ylim(len(forms) - 0.5, -0.5)
    return figure
