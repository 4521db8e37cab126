"""Honest confidence: probabilities that mean what they say, and when to answer "none of these".

    temperature = fit_temperature(logits, labels)       # of validation images
    probabilities = np.exp(log_probabilities(logits, temperature))
    known = familiarity("energy", logits)               # of validation images: higher is more familiar
    limit = threshold(known)                            # lets 95 % of them pass
    separation(known, familiarity("energy", others))    # AUROC, and the share of others that pass

Logits are of shape (images, classes), features of shape (images, channels). Nothing here knows about models.
"""

import base64

import numpy as np

ACCEPTED = 0.95  # share of the known images that a threshold lets pass
TEMPERATURES = (0.01, 100.0)
SCORES = ("probability", "energy", "distance")


def log_probabilities(logits, temperature=1.0):
    scaled = np.asarray(logits, "float64") / temperature
    return scaled - log_sum_exp(scaled)[:, None]


def log_sum_exp(logits):
    largest = logits.max(axis=1, keepdims=True)
    return largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=1))


def fit_temperature(logits, labels):
    """The temperature of least loss (Guo et al. 2017, arXiv:1706.04599); log probabilities do as logits.

    One image of no class in particular is added: where all answers are right, the loss alone would call for
    a temperature of zero, and every answer would be certain.
    """
    logits, labels = np.asarray(logits, "float64"), np.asarray(labels)
    spare = 1 / (len(labels) + 1)
    aim = (1 - spare) * logits[np.arange(len(labels)), labels] + spare * logits.mean(axis=1)

    # The loss is convex in 1 / temperature: its slope crosses zero once, and halving an interval finds where.
    cold, hot = np.log(TEMPERATURES)
    while hot - cold > 1e-6:
        middle = (cold + hot) / 2
        expected = (np.exp(log_probabilities(logits, np.exp(middle))) * logits).sum(axis=1)
        cold, hot = (middle, hot) if expected.mean() > aim.mean() else (cold, middle)
    return float(np.exp((cold + hot) / 2))


def familiarity(score, logits, features=None, class_means=None, temperature=1.0):
    """One number an image, higher where it resembles the training images more.

    probability  of the likeliest class, at the given temperature (Hendrycks, Gimpel 2017, arXiv:1610.02136)
    energy       logarithm of the sum of all classes' exponentials (Liu et al. 2020, arXiv:2010.03759)
    distance     cosine of features and nearest class mean, both seen from the centre of the class means
    """
    if score == "probability":
        return np.exp(log_probabilities(logits, temperature).max(axis=1))
    if score == "energy":
        return log_sum_exp(np.asarray(logits, "float64"))
    if score == "distance":
        centre = class_means.mean(axis=0)
        return (directions(features - centre) @ directions(class_means - centre).T).max(axis=1)
    raise ValueError(f"unknown score {score!r}: known are {', '.join(SCORES)}")


def directions(vectors):
    vectors = np.asarray(vectors, "float64")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def class_means(features, labels):
    """The mean features of each class's training images, in a row of its own."""
    return np.stack([features[labels == label].mean(axis=0) for label in range(labels.max() + 1)])


def packed(array):
    """An array as one line of text in half precision, for a model's description."""
    return base64.b64encode(np.asarray(array, "<f2").tobytes()).decode()


def unpacked(text, rows):
    return np.frombuffer(base64.b64decode(text), "<f2").reshape(rows, -1).astype("float32")


def threshold(known, accept=ACCEPTED):
    """The highest limit that at least this share of the known images' scores reach."""
    return float(np.quantile(known, 1 - accept, method="lower"))


def separation(known, unknown, accept=ACCEPTED):
    """How well a score tells unknown images from known ones.

    auroc: how often a known image scores higher than an unknown one, ties counted half;
    false_accepts: share of the unknown that pass where the given share of the known does.
    """
    from sklearn.metrics import roc_auc_score  # takes a second to import, which classify.py can do without

    is_known = np.repeat([True, False], [len(known), len(unknown)])
    return {
        "auroc": float(roc_auc_score(is_known, np.concatenate([known, unknown]))),
        "false_accepts": float((unknown >= threshold(known, accept)).mean()),
    }
