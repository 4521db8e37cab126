"""Figures say what the evidence says, and leave nothing behind."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from helpers import plots

CLASSES = ("cat", "dog", "ship")


def record(accuracy=0.9, epochs=4, seed=0):
    history = [
        {"epoch": epoch, "train_accuracy": 0.2 * epoch, "train_loss": 2 / epoch,
         "validation_accuracy": 0.19 * epoch + 0.01 * seed, "validation_loss": 2.1 / epoch}
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    test = {"correct": int(1000 * accuracy), "total": 1000}
    return {"test": test, "history": history, "train_pflop": 0.3, "measured": {"train_seconds": 100 + seed}}


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


@pytest.fixture(autouse=True)
def nothing_global():
    """No figure may change the settings of others, or register with pyplot."""
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    assert not pyplot.get_fignums()


def test_png_has_a_notebook_representation_and_keeps_metadata():
    figure = plots.accuracy_vs_cost({"a": [record()]})
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert b"a table" in plots.png(figure, Description="a table")


def test_learning_curves_are_means_over_seeds():
    figure = plots.learning_curves({"slow": [record(seed=0), record(seed=2)], "fast": [record(epochs=2)]})
    accuracy, loss = figure.axes
    validation = accuracy.lines[1]
    np.testing.assert_allclose(validation.get_ydata(), [20, 39, 58, 77])
    assert validation.get_linestyle() == "-" and accuracy.lines[0].get_linestyle() != "-"
    assert {"slow", "fast"} <= {text.get_text() for text in accuracy.texts}
    assert "%" in accuracy.get_ylabel() and loss.get_ylim()[0] == 0


def test_learning_curves_end_where_the_first_seed_stopped():
    figure = plots.learning_curves({"a": [record(epochs=4), record(epochs=2)]})
    assert list(figure.axes[0].lines[1].get_xdata()) == [1, 2]
    told = "up to where the first of them stopped"
    assert any(told in text for text in texts(figure))
    assert not any(told in text for text in texts(plots.learning_curves({"a": [record(), record()]})))


def test_a_loss_far_above_the_others_may_be_cut_off():
    assert plots.learning_curves({"a": [record()]}, highest_loss=1).axes[1].get_ylim() == (0, 1)


def test_accuracy_by_cost_begins_where_earlier_stages_ended():
    tuned = record(epochs=2) | {"earlier_stages": {"train_pflop": 0.2, "train_seconds": 9}}
    curves = {
        "tuned": [tuned, record(epochs=2, seed=2) | tuned],
        "all of it": [tuned],
        "plain": [record(epochs=3)],
    }
    lines = plots.accuracy_by_cost(curves, {"all of it": 1.0}).axes[0].lines
    spent = [line.get_xdata() for line in lines]
    np.testing.assert_allclose(spent[0], [0.35, 0.5])
    np.testing.assert_allclose(spent[1], [1.35, 1.5])
    np.testing.assert_allclose(spent[2], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(lines[2].get_ydata(), [19, 38, 57])


def test_labels_are_moved_apart_and_stay_in_order():
    placed = plots._apart([0.1, 0.5, 0.5, 0.52, 0.9], gap=0.1)
    assert (np.diff(placed) >= 0.1 - 1e-9).all()
    assert (
        placed[0] == 0.1 and placed[-1] == 0.9 and np.mean(placed[1:4]) == pytest.approx(0.506667, abs=1e-5)
    )


@pytest.mark.parametrize(("cost", "unit"), [("train_pflop", "PFLOP"), ("train_seconds", "seconds")])
def test_accuracy_vs_cost(cost, unit):
    figure = plots.accuracy_vs_cost(
        {"sure": [record(0.9), record(0.92), record(0.94)], "once": [record(0.8)]}, cost
    )
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and unit in axes.get_xlabel()
    assert {"sure  92.00 ± 2.00", "once  80.00"} <= {text.get_text() for text in axes.texts}
    sure, once = (container[0] for container in axes.containers)
    assert sure.get_markerfacecolor() == plots.BLUE and once.get_markerfacecolor() == "white"


def test_names_stay_apart_where_points_crowd():
    crowd = {f"a system called {n}": [record(0.94 + 0.001 * n)] for n in range(12)}
    axes = plots.accuracy_vs_cost(crowd).axes[0]
    axes.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == 12
    assert not any(box.count_overlaps(boxes[:n]) for n, box in enumerate(boxes))
    assert all(axes.get_window_extent().count_contains(box.corners()) == 4 for box in boxes)


def test_accuracy_without_a_mistake_has_a_place_too():
    axes = plots.accuracy_vs_cost({"perfect": [record(1.0)], "usual": [record(0.9)]}).axes[0]
    low, high = axes.get_ylim()
    assert low < 90 and np.isfinite(high) and plots.png(axes.figure)


def test_confusion_shows_counts_and_shares_of_the_true_class():
    figure = plots.confusion([[90, 10, 0], [5, 45, 0], [0, 0, 10]], CLASSES)
    assert {"90", "90.0 %", "10", "10.0 %", "45", "5"} <= set(texts(figure)) and "0.0 %" not in texts(figure)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == list(CLASSES)


def test_per_class_has_the_best_class_on_top():
    axes = plots.per_class([[90, 10, 0], [5, 45, 0], [0, 0, 10]], CLASSES).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["dog", "cat", "ship"]
    assert [text.get_text() for text in axes.texts] == ["85.7", "92.3", "100.0"]


def test_mistakes_are_the_wrong_ones_and_the_surest_first():
    images = np.zeros((4, 8, 8, 3), np.uint8)
    figure = plots.mistakes(
        images, [0, 1, 2, 0], [0, 2, 1, 1], CLASSES, confidence=[0.9, 0.6, 0.8, 0.7], shown=2
    )
    assert "3 of 4 wrong" in texts(figure)
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == ["dog 80 %\n", "dog 70 %\n"]


def test_no_mistakes_are_a_figure_too():
    figure = plots.mistakes(np.zeros((2, 8, 8, 3), np.uint8), [0, 1], [0, 1], CLASSES, confidence=[1, 1])
    assert "0 of 2 wrong" in texts(figure) and plots.png(figure)


def test_trials_stand_beside_the_first_one():
    trials = {
        name: [{"validation_accuracy": 0.1}, {"validation_accuracy": accuracy}]
        for name, accuracy in {"first": 0.8, "worse": 0.55}.items()
    }
    told = {"data": {"validation": 1000}, "seed": 0, "parameters": {"tried_images": 9000}, "trials": trials}
    figure = plots.tried(told)
    assert {"80.0", "55.0 (-25.0)", "first", "worse"} <= set(texts(figure))
    assert "9,000 training images, passes over them: 2, seed 0" in texts(figure)
