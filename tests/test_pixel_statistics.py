"""Pixel statistics against numpy, and copies that were planted to be found."""

import json

import numpy as np
import pytest

from helpers import data, duplicates, pixel_statistics, plots, plots_pixels


@pytest.fixture(scope="module")
def source():
    return data.source("sample", train_images=900)


@pytest.fixture(scope="module")
def evidence(source):
    record, arrays = pixel_statistics.evidence(source)
    return json.loads(json.dumps(record["statistics"])), arrays


def test_moments_from_histograms_are_those_of_the_pixels(source, evidence):
    training, test = pixel_statistics.undivided(source)
    for counts, images in zip(evidence[1]["histograms"][1:], (training.images, test.images)):
        assert pixel_statistics.mean_and_std(counts) == pytest.approx((images.mean(), images.std()))
        assert pixel_statistics.mean_and_std(counts[2])[0] == pytest.approx(images[..., 2].mean())
        inside = ((images >= 50) & (images <= 150)).mean()
        assert pixel_statistics.share_between(counts, 50, 150) == pytest.approx(inside)


def test_counts_and_mean_images_are_of_training_and_validation_together(source, evidence):
    statistics, arrays = evidence
    assert statistics["images"] == {"training": 1000, "test": 200}
    assert np.sum(statistics["class_counts"]["fifths"], axis=0).tolist() == [100] * 10
    train, validation, _ = source.load()
    threes = np.concatenate([part.images[part.labels == 3] for part in (train, validation)])
    assert np.abs(arrays["mean_images"][3] - threes.mean(axis=0)).max() <= 0.5


def test_the_nearest_mean_is_what_distances_say(source):
    training, _ = pixel_statistics.undivided(source)
    means = pixel_statistics.mean_images(training, 10)
    distances = [((image - means) ** 2).sum(axis=(1, 2, 3)) for image in training.images[:50].astype(float)]
    assert (pixel_statistics.nearest_mean(training.images[:50], means) == np.argmin(distances, axis=1)).all()


def test_light_tells_brightness_from_contrast():
    images = np.zeros((3, 4, 4, 3), np.uint8)
    images[1] = 200
    images[2, :2] = 200
    brightness, contrast = pixel_statistics.light(images)
    assert brightness == pytest.approx([0, 200, 100], abs=0.01)
    assert contrast == pytest.approx([0, 0, 100], abs=0.01)


def test_planted_copies_are_found():
    """Soft random pictures; the first ten test images are altered copies, the last is an exact one."""
    random = np.random.RandomState(0)
    coarse = random.randint(0, 256, (1300, 8, 8, 3)).astype(np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)
    training, test = images[:1000], images[1000:].copy()
    test[:5] = training[:5, :, ::-1]  # mirrored
    test[5:10] = training[5:10] * 0.6 + 30 + random.normal(0, 5, (5, 32, 32, 3))  # paler and noisy
    test[-1] = training[7]
    assert duplicates.exact_copies(training, test) == {"within_training": 0, "within_test": 0, "across": 1}
    found = duplicates.nearest(training, test)
    copies = [*range(10), 299]
    assert found["nearest"][copies].tolist() == [*range(10), 7]
    assert found["mirrored"][copies].tolist() == [True] * 5 + [False] * 6
    summary = duplicates.summary(found, np.arange(1000) % 10, np.arange(300) % 10)
    assert summary["found"] == 11 and summary["mirrored"] == 5
    pairs = duplicates.pairs(found)
    assert sorted(pairs) == [*([copy, copy] for copy in range(10)), [299, 7]]
    assert sorted(test for test, _ in pairs[-5:]) == [*range(5, 10)]  # the altered ones are less alike
    assert (
        found["similarity"][copies].min()
        > summary["threshold"]
        > np.delete(found["similarity"], copies).max()
    )


def test_every_figure_can_be_drawn(source, evidence):
    statistics, arrays = evidence
    figures = (
        plots_pixels.class_counts(statistics["class_counts"]["fifths"], source.classes),
        plots_pixels.mosaic([arrays["mean_images"]] * 2, names=["one", "two"], titles=source.classes),
        plots_pixels.histograms(arrays["histograms"][0]),
        plots_pixels.light(statistics["brightness"], statistics["contrast"], source.classes),
        plots_pixels.similarity(arrays["similarity"], arrays["control"], 0.9),
    )
    for figure in figures:
        assert plots.png(figure).startswith(b"\x89PNG")


def test_a_mosaic_shows_every_image_in_its_place():
    rows = [
        [np.full((4, 4, 3), 10 * (3 * row + column), np.uint8) for column in range(3)] for row in range(2)
    ]
    (shown,) = plots_pixels.mosaic(rows).axes[0].images
    assert shown.get_array()[2, 2::6, 0].tolist() == [0, 10, 20]
    assert shown.get_array()[8, 2::6, 0].tolist() == [30, 40, 50]
    (shown,) = plots_pixels.mosaic([rows[0], rows[1][:1]]).axes[0].images
    assert shown.get_array()[8, 2::6, 0].tolist() == [30, 255, 255]
