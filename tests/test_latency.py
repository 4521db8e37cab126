"""Latency: forms take turns, medians count, and the exported form answers what the model answers."""

import time

import keras
import matplotlib
import numpy as np
import pytest

from helpers import latency, models, plots_latency
from helpers.data import Split


def test_forms_take_turns_and_the_median_counts():
    calls, pauses = [], {"slow": [0.03, 0.03, 0.3, 0.03], "fast": [0.0] * 4}

    def form(name):
        def answer(pictures):
            calls.append((name, len(pictures)))
            time.sleep(pauses[name][(len(calls) - 1) // 2 % 4])

        return latency.Form(answer, 2_500_000)

    forms = {name: form(name) for name in pauses}
    rows = latency.measure(forms, np.zeros((2, 4, 4, 3), "uint8"), batch_sizes=[1, 5], rounds=3)
    assert calls == 4 * [("slow", 1), ("fast", 1)] + 4 * [("slow", 5), ("fast", 5)]
    assert [(row["form"], row["batch_size"]) for row in rows] == [
        ("slow", 1), ("fast", 1), ("slow", 5), ("fast", 5),
    ]  # fmt: skip
    assert 30 <= rows[0]["milliseconds_a_picture"] < 290 and 6 <= rows[2]["milliseconds_a_picture"] < 58
    assert rows[0]["pictures_per_second"] < 34 < rows[2]["pictures_per_second"]
    assert rows[0]["megabytes"] == 2.5


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    def build():
        keras.utils.set_random_seed(0)
        return keras.Sequential([
            keras.Input((32, 32, 3)), keras.layers.Resizing(48, 48), keras.layers.Rescaling(1 / 127.5, -1),
            keras.layers.DepthwiseConv2D(3), *models.head_layers(10),
        ])  # fmt: skip

    return latency.forms("small", build, tmp_path_factory.mktemp("forms"))


def test_every_form_answers_the_same_for_any_number_of_pictures(forms):
    assert list(forms) == ["small, float32", "small, bfloat16", "small, LiteRT"]
    exact, rounded, exported = (form.answer for form in forms.values())
    pictures = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3)).astype("uint8")
    for count in (1, 7, 3):
        expected = exact(pictures[:count])
        np.testing.assert_allclose(exported(pictures[:count]), expected, atol=1e-4)
        np.testing.assert_allclose(rounded(pictures[:count]), expected, atol=0.05)
        assert not np.array_equal(rounded(pictures[:count]), expected)
    assert all(1000 < form.size < 100_000 for form in forms.values())


def test_the_exported_form_is_judged_on_every_picture(forms):
    pictures = np.random.default_rng(1).integers(0, 256, (latency.JUDGED + 9, 32, 32, 3)).astype("uint8")
    right = forms["small, float32"].answer(pictures).argmax(axis=1)
    labels = np.where(np.arange(len(right)) % 3, right, (right + 1) % 10)
    scores = latency.judge(forms["small, LiteRT"], Split(pictures, labels))
    assert scores["total"] == len(pictures)
    assert abs(scores["correct"] - (labels == right).sum()) <= 1


def test_the_figure_shows_every_form_at_every_batch_size():
    rows = [
        latency.row(name, latency.Form(None, 1), size, seconds)
        for size in (1, 256)
        for name, seconds in (("VGG16", 0.02), ("MobileNetV2", 0.0042))
    ]
    figure = plots_latency.latencies(rows)
    texts = {text.get_text() for text in figure.findobj(matplotlib.text.Text)}
    assert {"VGG16", "MobileNetV2", "20", "4.2", "256 pictures at a time"} <= texts
