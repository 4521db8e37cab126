"""Systems beside one another, from what their runs said of the same test images.

One procedure tells whether two systems differ (`difference`). It looks at how much more often one is right,
image by image, and reckons with luck of three kinds: which images were tested, and which seeds either was
trained with. For two single networks it comes to McNemar's test. A verdict on many pairs at once
(`differences`, `ranks`) is corrected for their number, and needs `ENOUGH_SEEDS` seeds of each system.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from helpers import calibration, evaluation, files, predictions, report, runs
from helpers.plots import ENOUGH_SEEDS

CONFIDENCE = 0.95
# Which timed network a system answers with, by the beginning of its experiment's name.
TIMED = {
    "baseline-naive": "Naive CNN",
    "baseline-pooling": "CNN + pooling",
    "baseline-dropout": "CNN + pooling",
    "baseline-batchnorm": "CNN + batch normalisation",
    "baseline-stages": "CNN + batch normalisation",
    "baseline-fast": "Fast CNN",
    "vgg16-": "VGG16",
    "resnet50-as-usual": "ResNet50",
    "resnet50-": "ResNet50 at 64",
    "mobilenetv2-": "MobileNetV2 at 96",
}


class Answers(NamedTuple):
    """What all networks of a system, one a seed, say of the same images."""

    log_probabilities: np.ndarray  # (seeds, images, classes)
    labels: np.ndarray


def read(records, part="test"):
    """{system: Answers} of published records, of their test or their validation images."""
    systems = {name: _answers(group, part) for name, group in report.by_system(records).items()}
    labels = [answers.labels for answers in systems.values()]
    if any(not np.array_equal(labels[0], others) for others in labels[1:]):
        raise ValueError("the predictions are of different images: only those of the same can be compared")
    return systems


def of(run):
    """Answers of all seeds of a run to the test images, published or not."""
    return _stacked([run.arrays("test", record["seed"]) for record in run.seeds()])


def _answers(records, part):
    folders = (runs.RESULTS / record["experiment"] / f"seed-{record['seed']}" for record in records)
    return _stacked([files.load_arrays(folder / f"{part}.npz") for folder in folders])


def _stacked(arrays):
    log_probabilities = np.stack([found["log_probabilities"].astype("float64") for found in arrays])
    return Answers(log_probabilities, arrays[0]["labels"].astype("int64"))


def predicted(answers):
    """Classes by network and image."""
    return answers.log_probabilities.argmax(axis=-1)


def right(answers):
    """Which answers are right, by network and image."""
    return predicted(answers) == answers.labels


def accuracy(answers):
    """In percent, the mean over networks."""
    return 100 * right(answers).mean()


def deviation(answers):
    """The accuracy's standard deviation over networks, in percent; nan for a single one."""
    return pd.Series(100 * right(answers).mean(axis=1)).std()


def best_first(systems):
    return dict(sorted(systems.items(), key=lambda item: -accuracy(item[1])))


def enough(answers):
    """Whether there are as many seeds as a rank needs."""
    return len(answers.log_probabilities) >= ENOUGH_SEEDS


def difference(first, second):
    """How many points the first is above the second, with a 95 % interval and a p-value.

    The variance is the sum of the images' and of either system's seeds', where it has several; the parts of
    each give the degrees of freedom (Welch, Satterthwaite). How a network's luck falls on single images is
    counted in both, so that intervals are a little too wide rather than too narrow. Where a system has one
    seed, this speaks of that network only.
    """
    one, other = right(first), right(second)
    by_image = one.mean(axis=0) - other.mean(axis=0)
    samples = [by_image, *(correct.mean(axis=1) for correct in (one, other) if len(correct) > 1)]
    variances = np.array([sample.var(ddof=1) / len(sample) for sample in samples])
    freedoms = np.array([len(sample) - 1 for sample in samples])
    middle, variance = by_image.mean(), variances.sum()
    if variance == 0:  # the same answers everywhere
        reach, p = 0.0, float(middle == 0)
    else:
        luck = stats.t(variance**2 / (variances**2 / freedoms).sum(), scale=variance**0.5)
        reach, p = luck.ppf((1 + CONFIDENCE) / 2), 2 * luck.sf(abs(middle))
    points = {"difference": middle, "low": middle - reach, "high": middle + reach}
    return {name: 100 * float(value) for name, value in points.items()} | {"p": float(p)}


def lead(run, other):
    """+9.86 points (95 % interval +9.10 to +10.62), of all of a run's seeds over all of another's.

    Where either looks at a picture more than once, the lead with one look each follows.
    """
    compared = of(run), of(other)
    gain = difference(*compared)
    told = f"{gain['difference']:+.2f} points (95 % interval {gain['low']:+.2f} to {gain['high']:+.2f})"
    looks = ["test_single_view" if "test_single_view" in one.record else "test" for one in (run, other)]
    if looks != ["test", "test"]:
        once = [evaluation.summary(one.seeds(), look)["mean"] for one, look in zip((run, other), looks)]
        told += f"; with one look each {once[0] - once[1]:+.2f}"
    if any(len(answers.log_probabilities) == 1 for answers in compared):
        told += "; a single seed's luck is not in the interval"
    return told


def differences(systems):
    """A row for each pair, the better first; `apart` where luck is ruled out, given seeds enough."""
    ordered = best_first(systems).items()
    pairs = pd.DataFrame([_pair(*one, *other) for one, other in combinations(ordered, 2)])
    pairs["p_holm"] = np.nan
    pairs.loc[pairs["ranked"], "p_holm"] = holm(pairs.loc[pairs["ranked"], "p"])
    return pairs.assign(apart=pairs["p_holm"] < 1 - CONFIDENCE)


def gains(averages, name, answers):
    """A row for each average, over the system of this name; `apart` where the interval is above zero."""
    pairs = pd.DataFrame([_pair(*average, name, answers) for average in averages.items()])
    return pairs.assign(apart=pairs["ranked"] & (pairs["low"] > 0))


def _pair(first, one, second, other):
    names = {"first": first, "second": second, "ranked": enough(one) and enough(other)}
    return names | difference(one, other)


def holm(p_values):
    """P-values corrected for their number (Holm 1979): in 95 % of cases none of them is a false alarm."""
    p_values = np.asarray(p_values, dtype=float)
    order = p_values.argsort()
    corrected = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    return np.minimum(corrected, 1)[order.argsort()]


def neighbours(pairs, systems):
    """The pairs of each system and the next best."""
    names = list(best_first(systems))
    return pairs.set_index(["first", "second"]).loc[list(zip(names, names[1:]))].reset_index()


def ranks(systems, pairs):
    """{system: the ranks that it may have, as text}; systems of too few seeds have none.

    A system stands below those that are better beyond luck and above those that are worse beyond luck;
    between them it may be anywhere, so that two within noise share a rank.
    """
    ranked = [name for name, answers in systems.items() if enough(answers)]
    apart = pairs[pairs["apart"]]
    beaten, beats = apart["second"].value_counts(), apart["first"].value_counts()
    places = {name: (1 + beaten.get(name, 0), len(ranked) - beats.get(name, 0)) for name in ranked}
    text = {name: f"{high}" if high == low else f"{high}-{low}" for name, (high, low) in places.items()}
    return {name: text.get(name, "") for name in systems}


def calibrated(systems, validation, floored=True):
    """The same answers, each network's at the temperature and floor that fit its validation images."""
    return {name: _calibrated(answers, validation[name], floored) for name, answers in systems.items()}


def _calibrated(answers, validation, floored):
    pairs = zip(answers.log_probabilities, validation.log_probabilities)
    scaled = [
        calibration.log_probabilities(said, **calibration.fit(judged, validation.labels, floored))
        for said, judged in pairs
    ]
    return answers._replace(log_probabilities=np.stack(scaled))


def reliability(systems):
    """What each system's probabilities are worth, the mean over its networks."""
    return pd.DataFrame({name: _reliability(answers) for name, answers in systems.items()}).T


def _reliability(answers):
    scores = [
        evaluation.metrics(said, answers.labels) | {"brier": evaluation.brier(said, answers.labels)}
        for said in answers.log_probabilities
    ]
    return pd.DataFrame(scores)[["loss", "brier", "ece"]].mean()


def over_seeds(answers):
    """One answer an image: the average of the probabilities of all seeds."""
    return answers._replace(log_probabilities=_average(answers.log_probabilities)[None])


def over_systems(systems):
    """The average over systems, network by network: as many averages as each system has seeds."""
    seeds = min(len(answers.log_probabilities) for answers in systems)
    stacked = np.stack([answers.log_probabilities[:seeds] for answers in systems])
    return Answers(_average(stacked), systems[0].labels)


def _average(log_probabilities):
    return np.log(np.exp(log_probabilities).mean(axis=0))


def chosen(validation):
    """The systems to average: the best on validation images, then whichever helps most, while it helps.

    It helps where the gain is beyond luck, given how many were asked: of many, one always gains a little.
    Only systems of enough seeds are asked, so that the average has them too; all, where none has enough.
    """
    able = {name: answers for name, answers in validation.items() if enough(answers)} or validation

    def average(names):
        return over_systems([able[name] for name in names])

    names = [max(able, key=lambda name: accuracy(able[name]))]
    while others := [name for name in able if name not in names]:
        next_best = max(others, key=lambda name: accuracy(average([*names, name])))
        gain = difference(average([*names, next_best]), average(names))
        if gain["difference"] <= 0 or gain["p"] * len(others) > 1 - CONFIDENCE:
            break
        names.append(next_best)
    return names


def missed(systems):
    """Which images no network of any system gets right."""
    return ~np.concatenate([right(answers) for answers in systems]).any(axis=0)


def rescued(system, other):
    """Of the images that all but one network of a system miss, the share that one network of another gets
    right; with the system itself, the one that was left out.
    """
    own, others = right(system), right(other)
    shares = []
    for out in range(len(own)):
        left = ~np.delete(own, out, axis=0).any(axis=0)
        shares.append(others[out % len(others)][left].sum() / max(1, left.sum()))
    return float(np.mean(shares))


def missed_so_far(systems, doubted):
    """How many images all systems down to each row miss, the best first; how many of these are `doubted`."""
    best, rows = best_first(systems), {}
    for count, name in enumerate(best, start=1):
        left = missed(list(best.values())[:count])
        rows[name] = {"missed": left.sum(), "doubted": (left & doubted).sum()}
    return pd.DataFrame(rows).T


def unanimous(systems):
    """Which images all networks of all systems give the same answer to."""
    said = np.concatenate([predicted(answers) for answers in systems])
    return (said == said[0]).all(axis=0)


def class_accuracies(records, classes):
    """Percent of each class's images that are right, a row a system: the mean over its seeds."""
    rows = {}
    for system, group in report.by_system(records).items():
        counts = np.sum([record["confusion"] for record in group], axis=0)
        rows[system] = 100 * evaluation.per_class(counts, classes)["recall"]
    return pd.DataFrame(rows).T


def latency():
    """Milliseconds a picture by form of a network (rows) and batch size; empty before any were measured."""
    measured = runs.published("latency")
    if measured is None:
        return pd.DataFrame()
    rows = pd.DataFrame(measured["latency"])
    return rows.pivot(index=["form", "megabytes"], columns="batch_size", values="milliseconds_a_picture")


def answering(groups):
    """A row a system: looks at a picture, what one takes in Keras with float32, and its size at that."""
    measured = {form: row[1] for (form, _), row in latency().iterrows()}
    rows = []
    for first, *_ in groups.values():
        timed = next((TIMED[start] for start in TIMED if first["experiment"].startswith(start)), None)
        looks = len(predictions.VIEWS[first["parameters"].get("views", "single")])
        milliseconds = measured.get(f"{timed}, float32")
        megabytes = 4 * first["parameters_total"] / 1e6
        rows.append([looks, f"{milliseconds:.3g}" if milliseconds else "", f"{megabytes:.3g}"])
    return pd.DataFrame(rows, columns=["Looks", "Milliseconds a look", "Megabytes"])
