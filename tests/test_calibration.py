"""Temperatures, scores and thresholds, against known truths."""

import json

import numpy as np
import pytest

from helpers import calibration, evaluation


def drawn(count, temperature, seed=0, classes=10):
    """Logits that are too sure by a known factor: labels are drawn from what they should have said."""
    random = np.random.default_rng(seed)
    honest = random.normal(0, 2.5, (count, classes))
    probabilities = np.exp(calibration.log_probabilities(honest))
    labels = (probabilities.cumsum(axis=1) < random.random((count, 1))).sum(axis=1)
    return honest * temperature, labels


@pytest.mark.parametrize("temperature", [0.2, 1.0, 1.7, 30.0])
def test_a_known_temperature_is_recovered(temperature):
    logits, labels = drawn(20_000, temperature)
    found = calibration.fit(logits, labels)
    assert found["temperature"] == pytest.approx(temperature, rel=0.05) and found["floor"] < 0.003


def test_a_temperature_alone_is_what_is_asked_for():
    logits, labels = drawn(20_000, 1.7)
    found = calibration.fit(logits, labels, floored=False)
    assert found == {"temperature": pytest.approx(1.7, rel=0.05), "floor": 0}


def test_what_label_smoothing_spreads_is_taken_off_again():
    honest, labels = drawn(20_000, 1.0)
    smoothed = np.log(0.8 * np.exp(calibration.log_probabilities(honest)) + 0.2 / 10)
    found = calibration.fit(smoothed, labels)
    assert found["floor"] == pytest.approx(0.02, abs=0.003)
    assert found["temperature"] == pytest.approx(1, abs=0.05)
    restored = calibration.log_probabilities(smoothed, **found)
    assert evaluation.ece(smoothed, labels) > 0.08 and evaluation.ece(restored, labels) < 0.01


def test_answers_that_never_differ_have_a_temperature_all_the_same():
    found = calibration.fit(np.full((100, 2), np.log(0.5)), np.arange(100) % 2)
    np.testing.assert_allclose(calibration.log_probabilities(np.zeros((1, 2)), **found), np.log(0.5))


def test_the_temperature_found_is_that_of_least_loss_and_calibrates():
    logits, labels = drawn(5_000, 3.0)
    best = calibration.fit(logits, labels)["temperature"]

    def score(temperature):
        return evaluation.metrics(calibration.log_probabilities(logits, temperature), labels)

    losses = {factor: score(best * factor)["loss"] for factor in (0.97, 1.0, 1.03)}
    assert min(losses, key=losses.get) == 1.0
    assert score(1.0)["ece"] > 0.15 and score(best)["ece"] < 0.02


def test_log_probabilities_give_the_same_temperature_as_logits():
    logits, labels = drawn(2_000, 2.0)
    kept = calibration.log_probabilities(logits)
    one, other = (calibration.fit(found, labels)["temperature"] for found in (kept, logits))
    assert one == pytest.approx(other, rel=1e-3)


def test_few_images_all_answered_rightly_do_not_make_it_certain():
    labels = np.arange(75) % 5
    logits = 8.0 * np.eye(5)[labels] + np.random.default_rng(0).normal(0, 1, (75, 5))
    sure = np.exp(calibration.log_probabilities(logits, **calibration.fit(logits, labels))).max(axis=1).mean()
    assert 0.97 < sure < 0.999


def test_huge_logits_do_no_harm():
    logits = np.array([[1e4, 0.0], [0.0, 1e4], [1e4, 0.0]])
    assert np.isfinite(calibration.fit(logits, np.array([0, 1, 1]))["temperature"])
    assert np.isfinite(calibration.log_probabilities(logits)).all()


def test_scores_are_those_computed_by_hand():
    logits = np.log([[6.0, 2.0, 2.0], [1.0, 1.0, 2.0]])
    np.testing.assert_allclose(calibration.familiarity("probability", logits), [0.6, 0.5])
    np.testing.assert_allclose(calibration.familiarity("energy", logits), np.log([10, 4]))
    means = np.array([[2.0, 1.0], [0.0, 1.0]])  # their centre is (1, 1)
    features = np.array([[3.0, 1.0], [1.0, 2.0], [0.0, 0.0]])
    found = calibration.familiarity("distance", logits, features, means)
    np.testing.assert_allclose(found, [1, 0, 2**-0.5], atol=1e-12)
    line = np.array([2.0, -1.0, 0.5])  # two weights and a bias
    np.testing.assert_allclose(calibration.familiarity("learned", logits, features, line), [5.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="unknown score 'enrgy': known are probability, energy, distance"):
        calibration.familiarity("enrgy", logits)


def test_class_means_and_their_text():
    features, labels = np.random.default_rng(0).normal(0, 3, (100, 512)), np.arange(100) % 10
    means = calibration.class_means(features, labels)
    np.testing.assert_allclose(means[3], features[3::10].mean(axis=0))
    text = json.loads(json.dumps(calibration.packed(means)))
    assert len(text) < 14_000
    np.testing.assert_allclose(calibration.unpacked(text).reshape(10, -1), means, rtol=1e-3, atol=1e-4)


def test_a_layer_that_was_shown_strangers_tells_others_of_their_kind():
    random = np.random.default_rng(0)
    known, strange, others = (random.normal(middle, 1, (500, 6)) * np.arange(1, 7) for middle in (1, 0, 0))
    features, weights = np.concatenate([known, strange[:100]]), np.repeat([1.0, 5.0], [500, 100])
    line = calibration.learn(features, np.repeat([True, False], [500, 100]), weights)
    scores = [calibration.familiarity("learned", None, found, line) for found in (known, others)]
    assert calibration.separation(*scores)["auroc"] > 0.95


@pytest.mark.parametrize("count", [20, 101, 5_000])
def test_a_threshold_lets_the_asked_share_pass_and_hardly_more(count):
    known = np.random.default_rng(count).normal(size=count)
    passed = (known >= calibration.threshold(known)).mean()
    assert 0.95 <= passed < 0.95 + 2 / count


def test_separation_is_the_share_of_pairs_in_the_right_order():
    random = np.random.default_rng(1)
    known, unknown = random.normal(1, 1, 800).round(1), random.normal(0, 1, 300).round(1)  # with many ties
    found = calibration.separation(known, unknown)
    above, tied = known[:, None] > unknown, known[:, None] == unknown
    assert found["auroc"] == pytest.approx(above.mean() + tied.mean() / 2, abs=1e-12)
    limit = calibration.threshold(known)
    assert found["false_accepts"] == (unknown >= limit).mean()
    assert calibration.separation(known + 9, unknown) == {"auroc": 1.0, "false_accepts": 0.0}
