"""Systems side by side: what is told apart, what isn't, and what averages are worth, on known answers."""

import json

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from scipy import stats

from helpers import comparison, evaluation, files, literature, plots, plots_comparison, report, runs
from helpers.comparison import Answers

NOTEBOOK = runs.ROOT / "notebooks" / "07-comparison.ipynb"
# The labels that the source of literature.DOUBTED gives for its images, in its order.
GIVEN_LABELS = "433341017403023333935044318334839375371293001264531192"


def answers(correct, right=0.9, wrong=0.1):
    """Networks (rows) on images (columns) of two classes, with the true one's probability."""
    probability = np.where(np.atleast_2d(correct), right, wrong)
    log_probabilities = np.log(np.stack([probability, 1 - probability], axis=-1))
    return Answers(log_probabilities, np.zeros(probability.shape[1], int))


def trained(generator, skill, difficulty, seeds=3, luck=0.0):
    """Networks that are right with a chance that falls with an image's difficulty; `luck` is a seed's own."""
    skills = skill + luck * generator.normal(size=(seeds, 1))
    return answers(generator.random((seeds, len(difficulty))) < chance(skills - difficulty))


def chance(ease):
    return 1 / (1 + np.exp(-ease))


def drawn(generator, images=2000):
    return generator.normal(scale=3, size=images)


def test_the_same_answers_are_not_apart():
    correct = np.arange(3000).reshape(3, 1000) % 7 > 0
    found = comparison.difference(answers(correct), answers(correct))
    assert found["difference"] == 0 and found["p"] == 1 and found["low"] <= 0 <= found["high"]
    single = comparison.difference(answers(correct[0]), answers(correct[0]))
    assert single == {"difference": 0, "low": 0, "high": 0, "p": 1}


def test_two_single_networks_are_told_apart_as_by_mcnemar():
    images = np.arange(10_000)
    first, second = images >= 520, (images < 520) | (images >= 1120)  # 600 and 520 are right in one only
    found = comparison.difference(answers(first), answers(second))
    assert found["difference"] == pytest.approx(0.8)
    assert found["p"] == pytest.approx(stats.binomtest(520, 1120).pvalue, rel=0.1)


@pytest.mark.parametrize("luck", [0.0, 0.3])
def test_the_interval_covers_the_truth_as_often_as_it_says(luck):
    """Over images and seeds drawn anew; where seeds matter, an interval of images alone would fall short."""
    generator = np.random.default_rng(0)
    shown, spread = drawn(generator, 200_000), luck * generator.normal(size=200_000)
    truth = 100 * (chance(6 + spread - shown).mean() - chance(5.5 + spread - shown).mean())
    covered, by_images = [], []
    for _ in range(300):
        difficulty = drawn(generator)
        pair = [trained(generator, skill, difficulty, luck=luck) for skill in (6, 5.5)]
        found = comparison.difference(*pair)
        covered.append(found["low"] <= truth <= found["high"])
        correct = [comparison.right(system).mean(axis=0) for system in pair]
        reach = 1.96 * np.std(correct[0] - correct[1]) / len(difficulty) ** 0.5
        by_images.append(abs(found["difference"] - truth) <= 100 * reach)
    assert 0.93 <= np.mean(covered) <= 0.995
    assert luck == 0 or np.mean(by_images) < 0.9


def test_holm_by_hand():
    np.testing.assert_allclose(comparison.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(comparison.holm([0.9, 0.6]), [1, 1])
    assert len(comparison.holm([])) == 0


def test_ranks_part_what_luck_does_not_explain_and_nothing_else():
    generator = np.random.default_rng(1)
    difficulty = drawn(generator)
    systems = {
        "weak": trained(generator, 2, difficulty),
        "once": trained(generator, 6, difficulty, seeds=1),
        "good": trained(generator, 6, difficulty),
        "as good": trained(generator, 6, difficulty),
    }
    pairs = comparison.differences(systems)
    assert comparison.ranks(systems, pairs) == {"weak": "3", "once": "", "good": "1-2", "as good": "1-2"}
    assert (pairs["difference"] >= 0).all() and len(pairs) == 6
    unranked = pairs[(pairs["first"] == "once") | (pairs["second"] == "once")]
    assert not unranked["apart"].any() and unranked["p_holm"].isna().all()
    near = comparison.neighbours(pairs, systems)
    assert list(near["first"][1:]) == list(near["second"][:-1]) and near["second"].iloc[-1] == "weak"


def test_equal_systems_are_seldom_ranked_apart_however_many_there_are():
    generator = np.random.default_rng(2)
    wrong = 0
    for _ in range(60):
        difficulty = drawn(generator, 500)
        systems = {name: trained(generator, 5, difficulty, luck=0.1) for name in "abcde"}
        wrong += comparison.differences(systems)["apart"].any()
    assert wrong <= 6  # 5 % of 60 are 3


def test_temperature_changes_no_answer_and_repairs_confidence():
    generator = np.random.default_rng(3)
    sure, validation = (answers(generator.random((2, 2000)) < 0.8, 0.999, 0.001) for _ in range(2))
    fitted = comparison.calibrated({"sure": sure}, {"sure": validation})
    np.testing.assert_array_equal(comparison.right(fitted["sure"]), comparison.right(sure))
    before, after = comparison.reliability({"sure": sure}), comparison.reliability(fitted)
    assert (after < before).all(axis=None) and after.loc["sure", "ece"] < 0.03


def test_averages_mend_mistakes_that_are_not_shared():
    wrong = np.eye(3, dtype=bool).repeat(10, axis=1)  # each network misses ten images that the others get
    one = answers(~wrong)
    assert comparison.accuracy(one) == pytest.approx(200 / 3)
    assert comparison.accuracy(comparison.over_seeds(one)) == 100
    average = comparison.over_systems([answers(~wrong), answers(~np.roll(wrong, 10, axis=1)), one])
    assert average.log_probabilities.shape == (3, 30, 2)
    np.testing.assert_allclose(np.exp(average.log_probabilities).sum(axis=-1), 1)
    shorter = comparison.over_systems([one, answers(~wrong[:2])])
    assert len(shorter.log_probabilities) == 2
    gained = comparison.gains({"all seeds": comparison.over_seeds(one)}, "one", one)
    assert gained["difference"].iloc[0] == pytest.approx(100 / 3) and not gained["ranked"].iloc[0]
    images, before = np.arange(4000), np.arange(4000) % 20 > 0
    better = {
        name: answers([before | (images < count)] * 3) for name, count in (("much", 800), ("a hair", 21))
    }
    gained = comparison.gains(better, "before", answers([before] * 3))
    assert gained["ranked"].all() and gained["apart"].tolist() == [True, False]
    assert gained["difference"].iloc[1] > 0 > gained["low"].iloc[1]


def test_what_is_averaged_is_chosen_by_what_helps():
    images, rare = np.arange(600) % 6, np.arange(600) % 150 == 7
    missed = {"best": [0, 1], "mends 0": [1, 2, 3], "mends 1": [0, 4, 5]}
    helpful = {name: answers([~np.isin(images, few) & ~rare] * 3, wrong=0.4) for name, few in missed.items()}
    others = {"harmful": answers([images > 4] * 3, 0.99, 0.01), "one lucky seed": answers(images >= 0)}
    # Mends the last four images: alone beyond luck, but not as one of five that were asked.
    others["lucky"] = answers([~np.isin(images, [0, 1, 2]) | rare] * 3, 0.99, 0.49)
    chosen = comparison.chosen(others | helpful)
    assert chosen[0] == "best" and set(chosen) == set(helpful)
    assert comparison.chosen({"a single one": answers(images > 1)}) == ["a single one"]


def test_what_all_miss():
    images = np.arange(10)
    systems = {"good": answers([images > 2, images > 1]), "bad": answers(images > 5)}
    np.testing.assert_array_equal(comparison.missed(systems.values()), images < 2)
    counts = comparison.missed_so_far(systems, doubted=images % 2 == 0)
    assert counts.to_dict("index") == {
        "good": {"missed": 2, "doubted": 1},
        "bad": {"missed": 2, "doubted": 1},
    }
    np.testing.assert_array_equal(comparison.unanimous(systems.values()), (images < 2) | (images > 5))


def test_doubted_labels_are_those_of_the_published_list_in_this_order_of_the_test_images():
    assert len(set(literature.DOUBTED)) == 54 and len(literature.RATERS_SAY) == 18
    assert set(literature.RATERS_SAY) < set(literature.DOUBTED)
    with np.load(runs.RESULTS / "baseline-fast" / "seed-0" / "test.npz") as arrays:
        labels = arrays["labels"]
    assert "".join(map(str, labels[list(literature.DOUBTED)])) == GIVEN_LABELS
    assert all(labels[image] != told for image, told in literature.RATERS_SAY.items())


def test_figures_say_what_is_ruled_out():
    correct = np.arange(4000) % 20 > 0
    better = answers([correct | (np.arange(4000) < 800)] * 3)
    systems = {"better": better, "worse": answers([correct] * 3), "once": answers(correct)}
    pairs = comparison.neighbours(comparison.differences(systems), systems)
    axes = plots_comparison.differences(pairs).axes[0]
    fills = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"]
    assert fills == [plots.BLUE, "white"]
    assert axes.texts[0].get_text().startswith("+1.00  (+0.69 to +1.31)")
    figure = plots_comparison.missed(comparison.missed_so_far(systems, doubted=~correct))
    assert [text.get_text() for text in figure.axes[0].texts][-1] == "160 (160 doubted)"


# A small results folder, and the notebook on it.

IMAGES = {"test": 400, "validation": 200}
DATA = {
    "name": "cifar10", "published": True, "train": 45_000, "validation": 200, "test": 400,
    "classes": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
}  # fmt: skip


def publish(folder, experiment, seed, skill):
    generator = np.random.default_rng([seed, *experiment.encode()])
    arrays = {}
    for part, images in IMAGES.items():
        shared = np.random.default_rng(images)
        labels, difficulty = shared.integers(0, 10, images), drawn(shared, images)
        logits = generator.normal(size=(images, 10))
        logits[np.arange(images), labels] += 2 + skill - difficulty
        log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        arrays[part] = {"log_probabilities": log_probabilities.astype("float16"), "labels": labels}
        files.save_arrays(folder / experiment / f"seed-{seed}" / f"{part}.npz", arrays[part])
    record = {
        "experiment": experiment, "seed": seed, "fingerprint": "0123456789ab", "data": DATA,
        "source_weights": None, "parameters": {"views": "six"} if experiment == "baseline-fast" else {},
        **{part: evaluation.metrics(**arrays[part]) for part in ("validation", "test")},
        "confusion": evaluation.confusion(**arrays["test"]),
        "parameters_trained": 1000, "parameters_total": 2000, "train_pflop": 0.1 * skill,
        "measured": {"train_seconds": 100.0, "device": "CPU (test)"},
    }  # fmt: skip
    files.write_json(folder / experiment / f"seed-{seed}" / "record.json", record)


def test_a_runs_answers_are_those_of_all_its_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RUNS", tmp_path)
    for seed in (0, 1):
        said = np.log(np.full((3, 2), 0.5)) + seed
        run = runs.Run("trial", {"name": "sample"}, seed, {}, None)
        run.make_room()
        run.write({}, test={"log_probabilities": said.astype("float16"), "labels": np.array([0, 1, 1])})
    answers = comparison.of(run)
    np.testing.assert_array_equal(answers.labels, [0, 1, 1])
    np.testing.assert_array_equal(answers.log_probabilities[:, 0, 0], np.float16(np.log(0.5) + np.arange(2)))


def test_a_runs_lead_is_told_with_its_interval(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RUNS", tmp_path)
    images, led = np.arange(10_000), []
    for name, correct in (("first", images >= 520), ("second", (images < 520) | (images >= 1120))):
        run = runs.Run(name, {"name": "sample"}, 0, {}, None)
        run.make_room()
        said = answers(correct)
        run.write({}, test={"log_probabilities": said.log_probabilities[0], "labels": said.labels})
        led.append(run)
    # The images' standard error: the root of (600 + 520) / 10,000 - 0.008 squared, over 100, in percent.
    alone = "; a single seed's luck is not in the interval"
    assert comparison.lead(*led) == "+0.80 points (95 % interval +0.14 to +1.46)" + alone
    told = "-0.80 points (95 % interval -1.46 to -0.14)"
    assert comparison.lead(*led[::-1]) == told + alone
    right = {"test": 9400, "test_single_view": 9300}
    for run, parts in zip(led, (["test"], ["test", "test_single_view"])):
        run.write({part: {"correct": right[part], "total": 10_000} for part in parts})
    assert comparison.lead(*led[::-1]) == f"{told}; with one look each -1.00{alone}"


def test_what_all_but_one_network_miss_another_may_get_right():
    system = answers([[1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 1, 1], [1, 1, 1, 0, 0, 0]])
    other = answers([[0, 0, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0]])
    # Without each in turn, images 3, then 3 and 4, then 2 and 3 are missed by the two that are left.
    assert comparison.rescued(system, system) == pytest.approx((0 + 1 / 2 + 1 / 2) / 3)
    assert comparison.rescued(system, other) == pytest.approx((1 + 0 + 1) / 3)


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    for experiment, skill, seeds in (
        ("baseline-naive", 1, 1), ("baseline-fast", 5, 3), ("vgg16-fine-tuned", 5, 3), ("vgg16-frozen", 2, 3),
        ("vgg16-probe-block3", 9, 3),
    ):  # fmt: skip
        for seed in range(seeds):
            publish(folder, experiment, seed, skill)
    return folder


def test_predictions_are_read_by_system_without_ablations(results, monkeypatch):
    monkeypatch.setattr(runs, "RESULTS", results)
    records = report.read_records()
    systems = comparison.read(records, "validation")
    assert {name: said.log_probabilities.shape for name, said in systems.items()} == {
        "Naive CNN": (1, 200, 10), "Fast CNN": (3, 200, 10), "VGG16 frozen, computed once": (3, 200, 10),
        "VGG16 fine-tuned, all": (3, 200, 10),
    }  # fmt: skip
    by_class = comparison.class_accuracies(records, DATA["classes"])
    expected = np.sum([r["confusion"] for r in records if r["experiment"] == "baseline-fast"], axis=0)
    np.testing.assert_allclose(by_class.loc["Fast CNN"], 100 * np.diag(expected) / expected.sum(axis=1))
    groups = report.by_system(records)
    assert comparison.latency().empty
    looks = {name: 6 if name == "Fast CNN" else 1 for name in groups}
    answering = comparison.answering(groups).set_index(pd.Index(groups)).T.to_dict("list")
    assert answering == {name: [looks[name], "", "0.008"] for name in groups}
    rows = [
        {"form": form, "batch_size": size, "milliseconds_a_picture": 2.5 / size, "megabytes": 9.1}
        for size in (1, 256)
        for form in ("LiteRT", "VGG16, float32")
    ]
    found = {"experiment": "latency", "latency": rows}
    files.write_json(results / "latency" / "seed-0" / "record.json", found)
    assert comparison.latency().loc[("LiteRT", 9.1)].to_dict() == {1: 2.5, 256: 2.5 / 256}
    answering = comparison.answering(groups).set_index(pd.Index(groups)).T.to_dict("list")
    assert answering == {name: [looks[name], "2.5" if "VGG16" in name else "", "0.008"] for name in groups}
    assert report.read_records() == records


def test_predictions_for_other_images_are_refused(results, monkeypatch):
    monkeypatch.setattr(runs, "RESULTS", results)
    path = results / "baseline-naive" / "seed-0" / "test.npz"
    with np.load(path) as arrays:
        files.save_arrays(path, {**arrays, "labels": arrays["labels"][::-1]})
    with pytest.raises(ValueError, match="different images"):
        comparison.read(report.read_records())


@pytest.mark.slow
def test_the_notebook_reads_whatever_is_published(results, tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(results))
    papermill.execute_notebook(NOTEBOOK, tmp_path / "out.ipynb", cwd=runs.ROOT, progress_bar=False)
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    text = json.dumps(notebook)
    assert "4 systems, 10 networks, 400 test images" in text and "block3" not in text
    assert "The tested pictures are not on this machine" in text
    assert text.count('"image/png"') == 5
