"""Honest confidence: probabilities that mean what they say, and when to answer "none of these".

    found = fit(logits, labels)                         # of validation images: {"temperature", "floor"}
    probabilities = np.exp(log_probabilities(logits, **found))
    known = familiarity("energy", logits)               # of validation images: higher is more familiar
    limit = threshold(known)                            # lets 95 % of them pass
    separation(known, familiarity("energy", others))    # AUROC, and the share of others that pass

Logits are of shape (images, classes), features of shape (images, channels). Nothing here knows about models.
"""

import base64

import numpy as np

ACCEPTED = 0.95  # share of the known images that a threshold lets pass
SCORES = ("probability", "energy", "distance", "learned")
LEAST = 1e-4  # probability of a class, where a floor is taken off


def log_probabilities(logits, temperature=1.0, floor=0.0):
    """Softmax at a temperature; then `floor` is taken off each class's probability, and what is left scaled.

    Label smoothing teaches a network to leave every class some probability: that is the floor.
    """
    scaled = np.asarray(logits, "float64") / temperature
    found = scaled - log_sum_exp(scaled)[:, None]
    if floor == 0:
        return found
    left = np.maximum(np.exp(found) - floor, LEAST)
    return np.log(left / left.sum(axis=1, keepdims=True))


def log_sum_exp(logits):
    largest = logits.max(axis=1, keepdims=True)
    return largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=1))


def fit(logits, labels, floored=True):
    """The temperature (Guo et al. 2017, arXiv:1706.04599) and floor of least loss; log probabilities do too.
    Without `floored`, the temperature alone: the floor is 0.

    One image of no class in particular is added: where all answers are right, the loss alone would call for
    a temperature of zero, and every answer would be certain.
    """
    from scipy.optimize import minimize  # here, as classify.py can do without and starts fast

    logits, rows = np.asarray(logits, "float64"), np.arange(len(labels))
    spare = 1 / (len(labels) + 1)
    size = np.log(max(logits.std(), 0.01))  # where answers never differ, it is 0
    start = (size, -3.0) if floored else (size,)

    def read(numbers):
        floor = 1 / logits.shape[1] / (1 + np.exp(-numbers[1])) if floored else 0.0
        return {"temperature": np.exp(numbers[0]), "floor": floor}

    def loss(numbers):
        found = log_probabilities(logits, **read(numbers))
        return -(1 - spare) * found[rows, labels].mean() - spare * found.mean()

    best = minimize(loss, start, method="Nelder-Mead")
    return {name: round(float(number), 5) for name, number in read(best.x).items()}


def familiarity(score, logits, features=None, reference=None):
    """One number an image, higher where it resembles the training images more.

    probability  of the likeliest class (Hendrycks, Gimpel 2017, arXiv:1610.02136)
    energy       logarithm of the sum of all classes' exponentials (Liu et al. 2020, arXiv:2010.03759)
    distance     cosine of features and nearest class mean, both seen from the centre of the class means
    learned      a linear layer on the features, from `learn` (outlier exposure: arXiv:1812.04606)

    `reference`: the class means, or the linear layer's weights, its bias last.
    """
    if score == "probability":
        return np.exp(log_probabilities(logits).max(axis=1))
    if score == "energy":
        return log_sum_exp(np.asarray(logits, "float64"))
    if score == "distance":
        means = reference.reshape(-1, features.shape[1])
        centre = means.mean(axis=0)
        return (directions(features - centre) @ directions(means - centre).T).max(axis=1)
    if score == "learned":
        return features @ reference[:-1] + reference[-1]
    raise ValueError(f"unknown score {score!r}: known are {', '.join(SCORES)}")


def learn(features, known, weights):
    """A linear layer that tells features of known pictures from strangers', for images of given weight."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    layer = LogisticRegression(C=1e-3, max_iter=300)
    layer.fit(scaler.transform(features), known, sample_weight=weights)
    scaled = layer.coef_[0] / scaler.scale_
    return np.append(scaled, layer.intercept_ - scaled @ scaler.mean_)


def directions(vectors):
    vectors = np.asarray(vectors, "float64")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def class_means(features, labels):
    """The mean features of each class's training images, in a row of its own."""
    return np.stack([features[labels == label].mean(axis=0) for label in range(labels.max() + 1)])


def packed(array):
    """An array as one line of text in half precision, for a model's description."""
    return base64.b64encode(np.asarray(array, "<f2").tobytes()).decode()


def unpacked(text):
    """Its numbers in a row."""
    return np.frombuffer(base64.b64decode(text), "<f2").astype("float32")


def threshold(known):
    """The highest limit that at least 95 % of the known images' scores reach."""
    return float(np.quantile(known, 1 - ACCEPTED, method="lower"))


def separation(known, unknown):
    """How well a score tells unknown images from known ones.

    auroc: how often a known image scores higher than an unknown one, ties counted half;
    false_accepts: share of the unknown that pass where 95 % of the known do.
    """
    from sklearn.metrics import roc_auc_score  # takes a second to import, which classify.py can do without

    is_known = np.repeat([True, False], [len(known), len(unknown)])
    return {
        "auroc": float(roc_auc_score(is_known, np.concatenate([known, unknown]))),
        "false_accepts": float((unknown >= threshold(known)).mean()),
    }
