"""What a run is worth: numbers from log probabilities and labels, always from counts.

Log probabilities are natural logarithms of shape (images, classes); labels are class numbers. Nothing here
knows about models, so that published predictions are evaluated by the code that evaluated the run.
"""

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, f1_score

CONFIDENCE_BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks"


def metrics(log_probabilities, labels):
    """Count of correct answers, mean negative log-likelihood, macro F1 and calibration error."""
    log_probabilities, labels = _checked(log_probabilities, labels)
    predicted = log_probabilities.argmax(axis=1)
    classes = range(log_probabilities.shape[1])
    return {
        "correct": int((predicted == labels).sum()),
        "total": len(labels),
        "loss": float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        "macro_f1": float(f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)),
        "ece": ece(log_probabilities, labels),
    }


def ece(log_probabilities, labels):
    """Expected calibration error: the mean gap of confidence and accuracy over equal-width bins."""
    log_probabilities, labels = _checked(log_probabilities, labels)
    confidence = np.exp(log_probabilities.max(axis=1))
    right = log_probabilities.argmax(axis=1) == labels
    # Bins are open on the left, so a confidence of exactly 1 belongs to the last one.
    index = np.clip(np.ceil(confidence * CONFIDENCE_BINS).astype(int) - 1, 0, CONFIDENCE_BINS - 1)
    gaps = np.bincount(index, weights=right - confidence, minlength=CONFIDENCE_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def brier(log_probabilities, labels):
    """Squared distance of the probabilities from the truth, summed over classes: 0 to 2 (Brier 1950)."""
    log_probabilities, labels = _checked(log_probabilities, labels)
    truth = np.eye(log_probabilities.shape[1])[labels]
    return float(np.square(np.exp(log_probabilities) - truth).sum(axis=1).mean())


def answers(log_probabilities):
    """The class that each row answers, and its probability."""
    log_probabilities = np.asarray(log_probabilities, dtype=np.float64)
    return log_probabilities.argmax(axis=1), np.exp(log_probabilities.max(axis=1))


def confusion(log_probabilities, labels):
    """Counts by true class (rows) and predicted class (columns), as lists so that they fit into a record."""
    log_probabilities, labels = _checked(log_probabilities, labels)
    classes = range(log_probabilities.shape[1])
    return confusion_matrix(labels, log_probabilities.argmax(axis=1), labels=classes).tolist()


def per_class(matrix, classes):
    """Precision, recall, F1 and support of every class, from a confusion matrix with true classes as rows."""
    matrix = np.asarray(matrix)
    hits, predicted, support = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    table = {
        # A class that is never predicted, or not there at all, scores 0, as in scikit-learn.
        "precision": hits / np.maximum(predicted, 1),
        "recall": hits / np.maximum(support, 1),
        "f1": 2 * hits / np.maximum(predicted + support, 1),
        "support": support,
    }
    return pd.DataFrame(table, index=classes)


def interval(correct, total):
    """95 % Wilson score interval of an accuracy: what so many test images alone leave uncertain."""
    if not 0 <= correct <= total or total == 0:
        raise ValueError(f"{correct} correct of {total} is no accuracy: give 0 <= correct <= total")
    return tuple(map(float, binomtest(int(correct), int(total)).proportion_ci(method="wilson")))


def score_line(counts):
    """9,346 of 10,000 right, 93.46% (95 % interval 92.96% to 93.93%), of a record's part."""
    correct, total = counts["correct"], counts["total"]
    low, high = interval(correct, total)
    return f"{correct:,} of {total:,} right, {correct / total:.2%} (95 % interval {low:.2%} to {high:.2%})"


def cost(record):
    """PFLOP and seconds of a run's training and of the stages that it began with, source weights left out."""
    earlier = record.get("earlier_stages", {"train_pflop": 0, "train_seconds": 0})
    own = {"train_pflop": record["train_pflop"], "train_seconds": record["measured"]["train_seconds"]}
    return {name: own[name] + earlier[name] for name in own}


def accuracy_percent(counts):
    """Accuracy in percent of a record's train, validation or test block."""
    return 100 * counts["correct"] / counts["total"]


def summary(records, part="test"):
    """Number of runs, mean and sample standard deviation (nan for one run) of their accuracy in percent."""
    accuracies = [accuracy_percent(record[part]) for record in records]
    if not accuracies:
        raise ValueError("no records to summarise: train at least one seed first")
    std = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else float("nan")
    return {"n": len(accuracies), "mean": float(np.mean(accuracies)), "std": std}


def tried(record):
    """Validation images that each trial of a record got right at its end, of how many, in percent, and beside
    the first.
    """
    total = record["data"]["validation"]
    ends = {name: history[-1]["validation_accuracy"] for name, history in record["trials"].items()}
    table = pd.DataFrame({"correct": {name: round(share * total) for name, share in ends.items()}})
    table["total"], table["accuracy"] = total, 100 * table["correct"] / total
    return table.assign(difference=table["accuracy"] - table["accuracy"].iloc[0])


def beginning(record):
    """Where a training that starts from this record's network begins, as a line of its history."""
    judged = record["validation"]
    return {"epoch": 0, "validation_accuracy": judged["correct"] / judged["total"]}


def mean_and_deviation(mean, std):
    """94.02 ± 0.11 as text; without the deviation where it is nan, empty where the mean is."""
    if np.isnan(mean):
        return ""
    return f"{mean:.2f}" + ("" if np.isnan(std) else f" ± {std:.2f}")


def _checked(log_probabilities, labels):
    """Float64 and integer arrays of matching length: float16 evidence would lose the sums' last digits."""
    log_probabilities = np.asarray(log_probabilities, dtype=np.float64)
    labels = np.asarray(labels).astype(np.int64).ravel()
    if log_probabilities.ndim != 2 or len(log_probabilities) != len(labels) or not len(labels):
        raise ValueError(
            f"log probabilities of shape {log_probabilities.shape} do not fit {len(labels)} labels: "
            "give one row of log probabilities for each label"
        )
    if np.isnan(log_probabilities).any() or (log_probabilities > 1e-3).any():
        raise ValueError("log probabilities must be numbers up to 0: pass the logarithm of softmax outputs")
    return log_probabilities, labels
