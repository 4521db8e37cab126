"""README and the report say what the evidence says."""

import math
import re
import tomllib
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from helpers import evaluation, files, report, runs, tour_page

CIFAR10 = {"name": "cifar10", "published": True, "train": 45_000, "validation": 5_000, "test": 10_000}
SAMPLE = {"name": "sample", "published": False, "train": 1_000, "validation": 100, "test": 200}
PARTS = ("validation", "test")
README = runs.ROOT / "README.md"


def record(
    experiment="baseline-fast", seed=0, correct=9_400, data=CIFAR10, fingerprint="0123456789ab", single=None,
    weights=None, validation=4_700,
):  # fmt: skip
    test = {"correct": correct, "total": 10_000, "loss": 0.2, "macro_f1": correct / 10_000, "ece": 0.0123}
    accuracies = {
        "train_accuracy": 0.9,
        "train_loss": 0.2,
        "validation_accuracy": 0.8,
        "validation_loss": 0.3,
    }
    return {
        "schema": 1, "experiment": experiment, "seed": seed, "fingerprint": fingerprint,
        "data": data, "source_weights": weights, "test": test,
        "validation": {"correct": validation, "total": 5_000, "loss": 0.2},
        "history": [{"epoch": 1, **accuracies}, {"epoch": 2, **accuracies}],
        "parameters_trained": 1_234_567, "parameters_total": 2_000_000, "train_pflop": 0.3612,
        "measured": {"train_seconds": 1000.0 + 100 * seed, "device": "CPU (test)"},
    } | ({"test_single_view": test | {"correct": single}} if single else {})  # fmt: skip


def three(experiment="baseline-fast", **options):
    return [
        record(experiment, seed, correct, **options) for seed, correct in enumerate((9_390, 9_400, 9_410))
    ]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A results folder of its own: two systems, an ablation and the EDA's record, which are no systems."""
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    ablation = record("vgg16-probe-block3", correct=9_990)
    naive = record("baseline-naive", correct=6_500, weights={"name": "tiny-imagenet", "sha256": "0"})
    for content in [*three(single=9_300), naive, ablation]:
        files.write_json(
            runs.RESULTS / content["experiment"] / f"seed-{content['seed']}" / "record.json", content
        )
    files.write_json(runs.RESULTS / "eda" / "seed-0" / "record.json", {"experiment": "eda", "statistics": {}})
    return runs.RESULTS


def test_one_row_a_system_in_the_order_of_the_ladder(results):
    naive, fast = report.results_table().itertuples()
    assert (naive.system, naive.seeds, naive.accuracy) == ("Naive CNN", 1, 65.0)
    assert math.isnan(naive.accuracy_std) and math.isnan(naive.single_view)
    assert (fast.system, fast.seeds, fast.train_seconds, fast.train_pflop) == ("Fast CNN", 3, 1100.0, 0.3612)
    assert (fast.accuracy, fast.accuracy_std, fast.single_view) == pytest.approx((94.0, 0.1, 93.0))


def test_markdown_table(results):
    head, rule, naive, fast = report.markdown_table().splitlines()
    assert head.count("|") == rule.count("|") == naive.count("|") == fast.count("|")
    assert "| Naive CNN | Tiny-ImageNet | 65.00 (1, provisional) |  |" in naive
    assert (
        "| none | 94.00 ± 0.10 (3) | 93.00 ± 0.00 | 94.00 | 1.23 | 1,234,567 | 0.361 | 1,100 | CPU (test) |"
        in fast
    )


def test_the_claim_prefers_what_enough_seeds_stand_behind(results):
    lucky = record("baseline-stages", correct=9_900, validation=4_900)
    assert "94.00 ± 0.10 %" in report.headline([*report.read_records(), lucky])
    assert "99.00 %" in report.headline([lucky]) and "provisional" in report.headline([lucky])


def test_the_claim_is_chosen_on_validation_and_tells_a_single_view(results):
    lucky_in_test = three("baseline-stages", validation=4_650)
    for chance in lucky_in_test:
        chance["test"]["correct"] += 500
    claim = report.headline([*report.read_records(), *lucky_in_test])
    assert "94.00 ± 0.10 %" in claim and "93.00 ± 0.00 % from one" in claim


def test_other_parameters_make_a_row_of_their_own():
    groups = report.by_system([*three(), *three(fingerprint="ba9876543210"), record("unheard-of")])
    assert list(groups) == ["Fast CNN (0123456789ab)", "Fast CNN (ba9876543210)", "unheard-of"]


def test_readme_is_renewed_between_its_markers_only(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold numbers\n{report.END}\nafter ±\n", encoding="utf-8")
    for _ in range(2):
        report.update_readme(readme)
    text = readme.read_text(encoding="utf-8")
    assert text == f"before\n{report.BEGIN}\n{report.readme_block()}\n{report.END}\nafter ±\n"
    assert list(tmp_path.glob("part*")) == []


def test_readme_without_markers_is_left_alone(results, tmp_path):
    (tmp_path / "README.md").write_text("no place for results\n")
    with pytest.raises(ValueError, match="results:begin"):
        report.update_readme(tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == "no place for results\n"


def test_make_results(results, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text(f"{report.BEGIN}\n{report.END}\n")
    report.main()
    assert "94.00 ± 0.10" in (tmp_path / "README.md").read_text(encoding="utf-8")
    with Image.open(results / report.PICTURE) as picture:
        assert picture.text["Description"] == report.markdown_table()
    assert "README.md" in capsys.readouterr().out


def test_without_results_readme_says_how_to_get_some(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "nowhere")
    assert report.readme_block() == report.NO_RESULTS == report.markdown_table()


def test_side_by_side_and_html_report(tmp_path):
    published, trained = three(), [record(correct=8_000, data=SAMPLE), record("<own>", data=SAMPLE)]
    table = tour_page.side_by_side(published, trained)
    assert table.iloc[0].tolist() == [
        "Fast CNN", "94.00 ± 0.10 (3)", "80.00 (1, provisional)", "built-in sample, 1,000 images",
    ]  # fmt: skip
    path = tmp_path / "reports" / "report.html"
    tour_page.write(path, published, trained, notebooks=[tmp_path / "runs" / "02 small.ipynb"])
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == [] and len(page.images) == 4
    assert all(address.startswith("data:image/png;base64,") for address in page.images)
    assert page.links == ["../runs/02%20small.ipynb"]
    assert "these are not CIFAR-10 results" in page.text and "<own>" in page.text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (SAMPLE, "built-in sample"),
        (SAMPLE | {"name": "folder:photos"}, "other pictures"),
        (CIFAR10 | {"train": 4_500}, "only a part of CIFAR-10"),
    ],
)
def test_what_is_not_comparable_is_said(data, said):
    assert said in tour_page.caution([record(), record(data=data)])


def test_whole_cifar10_needs_no_caution(tmp_path):
    assert tour_page.caution(three()) == ""
    tour_page.write(tmp_path / "report.html", [], [])
    assert "Nothing was trained" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_data_is_named():
    changed = CIFAR10 | {"published": False}
    labels = [report.data_label(data) for data in (CIFAR10, changed, CIFAR10 | {"train": 4_500})]
    assert labels == ["CIFAR-10", "CIFAR-10, changed pixels", "CIFAR-10, 4,500 of 45,000 training images"]
    assert report.data_label(SAMPLE | {"name": "folder:photos"}) == "photos, 1,000 images"


def test_readme_equals_the_evidence():
    text = README.read_text(encoding="utf-8")
    block = text.split(report.BEGIN)[1].split(report.END)[0].strip()
    assert block == report.readme_block(), "README.md differs from results/: run `make results`"


def test_readme_picture_equals_the_evidence():
    with Image.open(runs.RESULTS / report.PICTURE) as picture:
        assert picture.text["Description"] == report.markdown_table(), "run `make results`"


def test_published_predictions_give_the_published_numbers():
    paths = sorted(path for part in PARTS for path in runs.RESULTS.rglob(f"{part}.npz"))
    assert paths
    for path in paths:
        record, arrays = files.read_json(path.parent / "record.json"), files.load_arrays(path)
        found, told = evaluation.metrics(**arrays), record[path.stem]
        assert {name: found[name] for name in told} == pytest.approx(told, abs=1e-4), path
        if path.stem == "test":
            difference = np.subtract(evaluation.confusion(**arrays), record["confusion"])
            assert np.abs(difference).sum() <= 2, path  # what half precision makes equal


def test_published_evidence_is_of_the_parameters_that_it_tells():
    paths = sorted(runs.RESULTS.rglob("record.json"))
    assert paths
    for record in map(files.read_json, paths):
        decisive = (record[part] for part in ("experiment", "data", "parameters", "source_weights"))
        assert runs.fingerprint(*decisive) == record["fingerprint"], record["experiment"]


def test_what_the_ladder_claims_is_published():
    """Every rung; the fast one of three seeds, right for 93.5 % and more, within 0.4 PFLOP a run."""
    systems = report.by_system(report.read_records())
    rungs = {system for name, system in report.SYSTEMS.items() if name.startswith("baseline-")}
    assert len(rungs) == 6 and rungs <= set(systems)
    fast = systems["Fast CNN"]
    result = evaluation.summary(fast)
    assert result["n"] >= 3 and result["mean"] >= 93.5
    assert all(record["train_pflop"] <= 0.4 for record in fast)
    staged = evaluation.summary(systems["CNN + staged learning rate"])
    assert staged["mean"] > 76  # what the project that the ladder takes up reports


def test_readme_is_short_and_its_links_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    for link in re.findall(r"\]\(([^)]+)\)", text):
        path = link.removeprefix(f"{colab_address()}/blob/main/")
        assert "colab.research.google.com/github" not in path, "the address in pyproject.toml is another"
        if not path.startswith("http"):
            assert (runs.ROOT / path).exists(), f"README.md links to {path}"


def colab_address():
    project = tomllib.loads((runs.ROOT / "pyproject.toml").read_text())["project"]
    return project["urls"]["Repository"].replace(
        "https://github.com", "https://colab.research.google.com/github"
    )


class Page(HTMLParser):
    """What a browser would find in a page."""

    VOID = {"meta", "img", "br", "link", "hr"}

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.images += [attributes["src"]] if tag == "img" else []
        self.links += [attributes["href"]] if tag == "a" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
