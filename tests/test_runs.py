"""Evidence: what decides a fingerprint, where records are read and written, what may be published."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from helpers import checks, data, files, runs, tiny_imagenet

CIFAR10 = {
    "name": "cifar10",
    "train_sha256": "47af8b02",
    "published": True,
    "classes": ["a", "b"],
    "train": 45_000,
    "validation": 5_000,
    "test": 10_000,
    "split_seed": 0,
}


class Known:
    """A data set that knows what it is; runs ask no more of one."""

    def __init__(self, **changes):
        self.identity = CIFAR10 | changes


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    return tmp_path


def start(seed=0, source=None, **parameters):
    return runs.start("trial", source=source or Known(), seed=seed, parameters={"epochs": 2} | parameters)


CLEAN = {"measured": {"dirty": False}}
RECORD = {"test": {"correct": 1, "total": 2}} | CLEAN


def test_same_parameters_read_the_evidence_and_changed_ones_do_not(folders, capsys):
    start().write(RECORD)
    assert start().record["test"] == RECORD["test"]
    assert "reads the evidence of a run of yours" in capsys.readouterr().out
    assert start(epochs=3).record is None
    assert start(seed=1).record is None
    assert start(source=Known(train_sha256="other")).record is None


def test_fingerprint_ignores_the_order_of_parameters_but_not_the_weights(folders):
    one = runs.Run("trial", CIFAR10, 0, {"epochs": 1, "rate": 0.1}, None)
    other = runs.Run("trial", CIFAR10, 5, {"rate": 0.1, "epochs": 1}, None)
    assert one.fingerprint == other.fingerprint
    weights = {"name": "file", "sha256": "1"}
    assert one.fingerprint != runs.Run("trial", CIFAR10, 0, one.parameters, weights).fingerprint


def test_published_evidence_is_read_first_and_never_overwritten(folders, monkeypatch):
    run = start()
    run.write(RECORD, test={"labels": np.arange(3)})
    monkeypatch.setenv("EVIDENCE", "publish")
    start()
    monkeypatch.delenv("EVIDENCE")
    repeated = runs.start("trial", source=Known(), parameters={"epochs": 2}, retrain=True)
    repeated.write({"test": {"correct": 2}} | CLEAN, test={"labels": np.arange(5)})
    # Who trained again sees what came of it, everybody else what is published.
    assert [record["test"]["correct"] for record in repeated.seeds()] == [2]
    assert len(repeated.arrays("test")["labels"]) == 5
    again = start()
    assert again.record["test"]["correct"] == 1 and len(again.arrays("test")["labels"]) == 3


def test_publishing_takes_all_seeds_and_refuses_what_is_not_the_whole_cifar10(folders, monkeypatch):
    for seed in (0, 1):
        start(seed=seed).write(RECORD)
    small, changed = Known(train=500), Known(published=False)
    for source in (small, changed):
        start(source=source).write(RECORD)
    monkeypatch.setenv("EVIDENCE", "publish")
    assert [record["seed"] for record in start().seeds()] == [0, 1]
    assert sorted(path.name for path in (runs.RESULTS / "trial").iterdir()) == ["seed-0", "seed-1"]
    for source in (small, changed):
        with pytest.raises(ValueError, match="not of the whole, original data set"):
            start(source=source)
    with pytest.raises(FileNotFoundError, match="has no finished evidence"):
        start(seed=2)


def test_the_published_run_at_other_parameters_is_not_mistaken_for_this_one(folders, monkeypatch):
    start(epochs=3).write(RECORD)
    monkeypatch.setenv("EVIDENCE", "publish")
    start(epochs=3)
    monkeypatch.delenv("EVIDENCE")
    assert start().record is None


def test_publishing_refuses_uncommitted_code_and_replaces_what_is_of_other_parameters(folders, monkeypatch):
    start(seed=1, epochs=3).write(RECORD)
    start().write(RECORD)
    start(epochs=5).write(RECORD | {"measured": {"dirty": True}})
    monkeypatch.setenv("EVIDENCE", "publish")
    start(seed=1, epochs=3)
    start()
    assert [path.name for path in (runs.RESULTS / "trial").iterdir()] == ["seed-0"]
    with pytest.raises(ValueError, match="code that is not committed"):
        start(epochs=5)


def test_what_was_half_published_is_published_again(folders, monkeypatch):
    for seed in (0, 1):
        start(seed=seed).write(RECORD, test={"labels": np.arange(3)})
    for seed in (0, 7):
        (runs.RESULTS / "trial" / f"seed-{seed}").mkdir(parents=True)
        (runs.RESULTS / "trial" / f"seed-{seed}" / "test.npz").write_bytes(b"half")
    monkeypatch.setenv("EVIDENCE", "publish")
    assert [record["seed"] for record in start(seed=1).seeds()] == [0, 1]
    assert len(start().arrays("test")["labels"]) == 3
    assert not (runs.RESULTS / "trial" / "seed-7").exists()


def test_code_that_git_knows_nothing_of_counts_as_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert runs.environment()["commit"] == "" and runs.environment()["dirty"]


def test_reading_only_never_computes(folders, monkeypatch):
    monkeypatch.setenv("EVIDENCE", "read")
    with pytest.raises(FileNotFoundError, match="has no finished evidence"):
        start()
    assert not runs.RUNS.exists()


def test_a_word_that_evidence_does_not_know_is_refused(folders, monkeypatch):
    monkeypatch.setenv("EVIDENCE", "raed")
    with pytest.raises(ValueError, match="EVIDENCE must be read or publish, or not be set; got 'raed'"):
        start()


def test_a_notebook_s_parameters_are_what_it_annotates():
    names = {}
    exec("epochs: int = 2\nresolution: int = 64\nsome_rate = -1", names)
    checks.notebook(names)
    for wrong, told in (
        ("epochs = 0", "epochs must be"),
        ("resolution = 16", "resolution must be .* at least 32"),
    ):
        with pytest.raises(ValueError, match=told):
            exec(wrong, changed := dict(names))
            checks.notebook(changed)


WRONG = {
    "epochs": 0, "size": 0, "resolution": 31, "images": 0, "steps": 0, "answers": 0, "hidden": 0,
    "patience": 0, "copies": 3, "seed": -1, "shift": -1, "rate": 0.0, "factor": 0.0, "dropout": 1.0,
    "smoothing": 1.0, "share": -0.1, "precision": "float16", "backbone": "vgg19", "flips": "up",
    "views": "two", "rate_stage": 1, "answered_at": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", checks.RULES)
def test_a_value_out_of_bounds_or_of_another_type_is_refused(name):
    for wrong in (WRONG[name], True, None):
        with pytest.raises(ValueError, match=f"some_{name} must be of type"):
            checks.parameters({f"some_{name}": wrong})


def test_a_folder_that_cannot_be_written_is_noticed_before_anything_is_computed(folders):
    runs.RUNS.write_text("a file where the folder belongs")
    with pytest.raises(OSError, match="cannot be written .*: set RUNS_DIR") as error:
        start()
    assert "\n" not in str(error.value)


def test_retrain_sets_finished_evidence_aside_but_goes_on_with_an_unfinished_run(folders):
    run = start()
    files.write_json(run.state, {"epoch": 1})
    again = runs.start("trial", source=Known(), parameters={"epochs": 2}, retrain=True)
    assert again.state.is_file()
    again.write(RECORD)
    last = runs.start("trial", source=Known(), parameters={"epochs": 2}, retrain=True)
    assert last.record is None and not list(last.folder.iterdir())
    assert files.read_json(last.previous / "record.json")["test"] == RECORD["test"]
    last.write(RECORD)
    assert not last.previous.exists()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epochs": -1}, "epochs must be of type int, at least 1; got -1"),
        ({"epochs": 2.5}, "got 2.5"),
        ({"fast_epochs": 0}, "fast_epochs must be of type int, at least 1; got 0"),
        ({"batch_size": "128"}, "got '128'"),
        ({"learning_rate": 0}, "learning_rate must be of type float, more than 0; got 0"),
        ({"dropout": 1.0}, "from 0 to below 1"),
        ({"precision": "float8"}, "one of float32, mixed_bfloat16"),
        ({"epochs": True}, "got True"),
        ({"tried_rates": [0.1, -0.1]}, "tried_rate must be of type float, more than 0; got -0.1"),
        ({"sizes": [32, "64"]}, "size must be of type int, at least 1; got '64'"),
        ({"rate_stages": [4, 6]}, "rate_stage must be of type float, between 0 and 1"),
        ({"flips": "alternate"}, "flips must be of type str, one of none, random, alternating"),
    ],
)
def test_a_bad_parameter_gets_one_clear_line(folders, parameters, message):
    with pytest.raises(ValueError, match=message) as error:
        start(**parameters)
    assert "\n" not in str(error.value)
    assert not runs.RUNS.exists()


@pytest.mark.parametrize("seed", [-1, 0.5, "0", True])
def test_a_bad_seed_gets_one_clear_line(folders, seed):
    with pytest.raises(ValueError, match="seed must be of type int, at least 0"):
        start(seed=seed)


def test_a_failed_write_leaves_the_old_file_and_nothing_half_written(tmp_path):
    path = tmp_path / "file.json"
    files.write_json(path, {"whole": True})

    def fail(part):
        part.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError):
        files.write_whole(path, fail)
    assert json.loads(path.read_text()) == {"whole": True}
    assert [file.name for file in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits are set the Linux way")
def test_a_full_disk_leaves_no_half_written_record(tmp_path):
    """The limit on file sizes fails a write in its middle, as a full disk does."""
    script = """
import resource, signal, numpy as np
from helpers import runs
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
class Known: identity = {"name": "stand-in"}
run = runs.start("trial", source=Known(), parameters={})
try:
    run.write({}, test={"noise": np.random.default_rng(0).random(100_000)})
except OSError as error:
    print("refused:", error)
print(sorted(path.name for path in run.folder.iterdir()))
"""
    environment = os.environ | {"RUNS_DIR": str(tmp_path), "PYTHONPATH": str(runs.ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert "refused" in done.stdout and done.stdout.endswith("[]\n"), done.stdout + done.stderr


def test_reading_evidence_needs_no_deep_learning_library():
    script = "import sys, helpers.runs, helpers.report; sys.exit('keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=runs.ROOT, check=True)


def test_the_published_records_are_whole_and_of_the_original_pixels():
    """What is committed under results/: whole data sets, the digests of their original training pixels."""
    digests = {
        "cifar10": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "tiny-imagenet": tiny_imagenet.TRAIN_SHA256,
    }
    paths = list(runs.RESULTS.rglob("record.json"))
    assert paths
    for path in paths:
        record = files.read_json(path)
        data = record["data"]
        assert data["train_sha256"] == digests[data["name"]]
        sizes = tuple(data[part] for part in ("train", "validation", "test"))
        assert sizes == runs.PUBLISHED_SIZES[data["name"]]
        assert (
            path.parent.name == f"seed-{record['seed']}" and path.parent.parent.name == record["experiment"]
        )
        assert not record["measured"]["dirty"], f"{path}: published from a checkout with changes"


def test_data_sources_give_what_a_fingerprint_needs():
    identity = data.source("sample", train_images=500).identity
    assert json.loads(json.dumps(identity)) == identity and not identity["published"]
