"""Pictures with what a model says of them."""

import io

import numpy as np

from helpers import photos
from helpers.plots import BLUE, FAINT, INK, VERMILLION, Figure, styled

LONGEST = 320  # pixels of a picture's longer side
ROW_INCHES = 1.75
QUALITY = 85  # of JPEG


class PhotoFigure(Figure):
    """Shown as JPEG: an eighth of the bytes that photographs take as PNG."""

    _repr_png_ = None

    def _repr_jpeg_(self):
        buffer = io.BytesIO()
        self.savefig(buffer, format="jpeg", pil_kwargs={"quality": QUALITY})
        return buffer.getvalue()


@styled
def answers(found, heat_maps=None):
    """A row for each answer: the picture, what spoke for its likeliest class, and the likeliest classes."""
    figure = PhotoFigure(figsize=(9, ROW_INCHES * len(found)), layout="constrained")
    rows = figure.subplots(len(found), 3, squeeze=False, width_ratios=(1, 1, 1.1))
    for axes, answer, heat in zip(rows, found, heat_maps or [None] * len(found)):
        for panel in axes:
            panel.set_axis_off()
        if answer.problem:
            axes[0].text(0, 0.5, answer.problem, color=VERMILLION, fontsize=8, in_layout=False)
            continue
        picture = photos.open_upright(answer.picture, LONGEST)
        axes[0].imshow(picture)
        if heat is not None:
            _heat(axes[1], picture, heat)
        _bars(axes[2], answer)
    return figure


def _heat(axes, picture, heat):
    """The heat over the central square, which is all that the model saw; the rest remains dark."""
    axes.imshow(np.asarray(picture.convert("L")) // 2, cmap="gray", vmin=0, vmax=255)
    left, top = ((side - min(picture.size)) / 2 for side in picture.size)
    right, bottom = (side - margin for side, margin in zip(picture.size, (left, top)))
    axes.imshow(heat, cmap="inferno", alpha=0.6, extent=(left, right, bottom, top), interpolation="bicubic")
    axes.set(xlim=(0, picture.width), ylim=(picture.height, 0))


def _bars(axes, answer):
    names, probabilities = zip(*answer.top)
    colour = FAINT if answer.unfamiliar else BLUE
    axes.set_axis_on()
    axes.barh(names, probabilities, color=colour, height=0.55)
    for row, probability in enumerate(probabilities):
        axes.annotate(
            f"{probability:.0%}", (probability, row), (4, 0), textcoords="offset points", va="center"
        )
    axes.set(xlim=(0, 1.15), ylim=(len(names) - 0.4, -0.6), xticks=[])
    axes.set_title(answer.best, color=FAINT if answer.unfamiliar else INK)
    axes.grid(False)
    axes.spines[:].set_visible(False)
