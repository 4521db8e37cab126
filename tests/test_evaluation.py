"""Evaluation against values worked out by hand and against scikit-learn."""

import json
import math

import numpy as np
import pytest
from sklearn.metrics import log_loss, precision_recall_fscore_support

from helpers import evaluation


def predictions(images=500, classes=10, seed=0):
    """Log probabilities that are right more often than not."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, images)
    logits = generator.normal(size=(images, classes)) + 2 * np.eye(classes)[labels]
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), labels


def test_metrics_agree_with_scikit_learn():
    log_probabilities, labels = predictions()
    result = evaluation.metrics(log_probabilities, labels)
    predicted = log_probabilities.argmax(axis=1)
    macro_f1 = precision_recall_fscore_support(labels, predicted, average="macro")[2]
    assert result["correct"] == (predicted == labels).sum() and result["total"] == 500
    assert result["loss"] == pytest.approx(log_loss(labels, np.exp(log_probabilities)))
    assert result["macro_f1"] == pytest.approx(macro_f1)


def test_metrics_are_plain_numbers_that_json_keeps():
    result = evaluation.metrics(*predictions())
    assert json.loads(json.dumps(result)) == result
    assert type(result["correct"]) is int and type(result["total"]) is int


def test_float16_evidence_gives_nearly_the_same_numbers():
    log_probabilities, labels = predictions()
    exact = evaluation.metrics(log_probabilities, labels)
    stored = evaluation.metrics(log_probabilities.astype(np.float16), labels.astype(np.uint8))
    assert stored["loss"] == pytest.approx(exact["loss"], abs=1e-3)
    assert stored["ece"] == pytest.approx(exact["ece"], abs=5e-3)


def test_ece_by_hand():
    # Two images at confidence 0.8 (one right), two at 0.6 (both right): (|1 - 1.6| + |2 - 1.2|) / 4.
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.6, 0.4]])
    labels = [0, 1, 0, 0]
    assert evaluation.ece(np.log(probabilities), labels) == pytest.approx(0.35)


def test_brier_by_hand():
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4]])
    assert evaluation.brier(np.log(probabilities), [0, 1]) == pytest.approx((2 * 0.04 + 2 * 0.36) / 2)
    with np.errstate(divide="ignore"):
        assert evaluation.brier(np.log(np.eye(2)), [1, 0]) == 2


def test_certain_and_right_is_perfectly_calibrated():
    with np.errstate(divide="ignore"):
        certain = np.log(np.eye(3))
    result = evaluation.metrics(certain, [0, 1, 2])
    assert result == {"correct": 3, "total": 3, "loss": 0.0, "macro_f1": 1.0, "ece": 0.0}


def test_confusion_has_true_classes_as_rows_and_every_class():
    log_probabilities = np.log([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    assert evaluation.confusion(log_probabilities, [0, 0, 0]) == [[2, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_per_class_agrees_with_scikit_learn():
    log_probabilities, labels = predictions(classes=4)
    table = evaluation.per_class(evaluation.confusion(log_probabilities, labels), classes=list("abcd"))
    expected = precision_recall_fscore_support(labels, log_probabilities.argmax(axis=1))
    np.testing.assert_allclose(table.to_numpy().T, np.array(expected, dtype=float))
    assert list(table.columns) == ["precision", "recall", "f1", "support"] and list(table.index) == list(
        "abcd"
    )


def test_class_never_predicted_scores_zero():
    table = evaluation.per_class([[3, 0], [2, 0]], ["a", "b"])
    assert table.loc["b", ["precision", "recall", "f1"]].tolist() == [0, 0, 0]


def test_wilson_interval():
    # Newcombe 1998, table I, method 3: 81 of 263.
    assert evaluation.interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert evaluation.interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert evaluation.interval(20, 20)[1] == 1.0


def test_a_score_is_told_with_its_interval():
    told = evaluation.score_line({"correct": 81, "total": 263})
    assert told == "81 of 263 right, 30.80% (95 % interval 25.53% to 36.62%)"
    assert evaluation.score_line({"correct": 9346, "total": 10_000}).startswith("9,346 of 10,000 right, 93")


def test_summary_over_seeds():
    records = [{"test": {"correct": correct, "total": 1000}} for correct in (930, 940, 950)]
    assert evaluation.summary(records) == pytest.approx({"n": 3, "mean": 94.0, "std": 1.0})


def test_summary_of_one_seed_has_no_deviation():
    result = evaluation.summary([{"test": {"correct": 940, "total": 1000}}])
    assert result["n"] == 1 and math.isnan(result["std"])


@pytest.mark.parametrize(
    ("log_probabilities", "labels", "message"),
    [
        (np.zeros((3, 2)), [0, 1], "one row of log probabilities for each label"),
        (np.zeros((0, 2)), [], "one row of log probabilities for each label"),
        (np.full((1, 2), 0.5), [0], "logarithm of softmax"),
        (np.full((1, 2), np.nan), [0], "logarithm of softmax"),
    ],
)
def test_unusable_predictions_are_refused(log_probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        evaluation.metrics(log_probabilities, labels)


def test_unusable_counts_are_refused():
    for correct, total in ((5, 4), (-1, 4), (0, 0)):
        with pytest.raises(ValueError, match="no accuracy"):
            evaluation.interval(correct, total)
    with pytest.raises(ValueError, match="no records"):
        evaluation.summary([])


def test_of_a_trial_its_end_counts():
    trials = {
        name: [{"validation_accuracy": accuracy} for accuracy in accuracies]
        for name, accuracies in {"first": (0.25, 0.75, 0.5), "other": (0.25, 0.75)}.items()
    }
    table = evaluation.tried({"data": {"validation": 8}, "trials": trials})
    assert list(table["correct"]) == [4, 6] and list(table["difference"]) == [0, 25]


def test_a_training_begins_where_the_network_that_it_starts_from_stood():
    begun = evaluation.beginning({"validation": {"correct": 3, "total": 4, "loss": 1.0}})
    assert begun == {"epoch": 0, "validation_accuracy": 0.75}


def test_a_cost_has_the_earlier_stages_in_it():
    record = {"train_pflop": 0.5, "measured": {"train_seconds": 100.0}}
    assert evaluation.cost(record) == {"train_pflop": 0.5, "train_seconds": 100.0}
    record["earlier_stages"] = {"train_pflop": 0.25, "train_seconds": 20.0}
    assert evaluation.cost(record) == {"train_pflop": 0.75, "train_seconds": 120.0}
