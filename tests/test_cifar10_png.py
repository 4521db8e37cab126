"""CIFAR-10 as pictures: what is written comes back, whatever happened; and its notebook, headless."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import execute
from PIL import Image
from test_data import BATCH_SIZE, Server, needs_cifar10, small_batch, write_archive

from helpers import cifar10, cifar10_png, data, download, files, runs

NOTEBOOK = "example-to-use/Download-images-CIFAR10.ipynb"


def draw(count, seed):
    """Noise, in ten classes of the same size, in random order."""
    random = np.random.RandomState(seed)
    labels = random.permutation(np.arange(count) % 10)
    return data.Split(random.randint(0, 256, (count, 32, 32, 3), np.uint8), labels)


TRAINING, TEST = draw(200, seed=0), draw(100, seed=1)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cifar10"


def stamps(folder):
    """When each picture was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}


def assert_same(found, original):
    for copy, split in zip(found, original):
        assert np.array_equal(copy.images, split.images) and np.array_equal(copy.labels, split.labels)
        assert copy.images.dtype == np.uint8 and copy.labels.dtype == np.int64


def refused(folder, *arguments, error=ValueError):
    """The line that a call ends with which changes nothing."""
    before = stamps(folder)
    with pytest.raises(error) as caught:
        cifar10_png.write(folder, TRAINING, TEST, *arguments)
    assert stamps(folder) == before
    message = str(caught.value)
    assert message and "\n" not in message
    return message


# --- What is written


def test_pixels_and_labels_come_back_in_the_original_order(folder, capsys):
    assert_same(cifar10_png.write(folder, TRAINING, TEST), (TRAINING, TEST))
    assert_same(cifar10_png.load(folder), (TRAINING, TEST))
    assert sorted(path.name for path in folder.glob("train/*/*")) == [f"{i:05}.png" for i in range(200)]
    assert (folder / "train" / cifar10.CLASSES[TRAINING.labels[7]] / "00007.png").is_file()
    assert capsys.readouterr().out == "cifar10: 300 of 300 pictures, 300 of them new\n"


def test_a_few_of_each_class_are_the_first_and_keep_their_names(folder):
    training, test = cifar10_png.write(folder, TRAINING, TEST, 3)
    assert np.bincount(training.labels).tolist() == np.bincount(test.labels).tolist() == [3] * 10
    frogs = np.flatnonzero(TRAINING.labels == 6)[:3]
    assert sorted(path.stem for path in folder.glob("train/frog/*")) == [f"{i:05}" for i in frogs]
    assert np.array_equal(training.images[training.labels == 6], TRAINING.images[frogs])


def test_fewer_than_asked_for_are_all_there_are(folder):
    training, test = cifar10_png.write(folder, TRAINING, TEST, 15)
    assert len(training.labels) == 150 and len(test.labels) == 100


@pytest.mark.parametrize("count", [0, -1, 2.5, "100", True])
def test_a_senseless_number_is_refused(folder, count):
    assert f"must be a whole number, 1 or more, not {count!r}" in refused(folder, count)


def test_every_notebook_accepts_the_folder_as_data(folder):
    cifar10_png.write(folder, TRAINING, TEST)
    source = data.source(str(folder))
    splits = source.load()
    assert source.classes == cifar10.CLASSES and not source.identity["published"]
    assert [np.bincount(split.labels).tolist() for split in splits] == [[18] * 10, [2] * 10, [10] * 10]
    for parts, original in (((splits.train, splits.validation), TRAINING), ((splits.test,), TEST)):
        found = {(i.tobytes(), label) for part in parts for i, label in zip(part.images, part.labels)}
        assert found == {(i.tobytes(), label) for i, label in zip(original.images, original.labels)}


# --- What is there already


def test_what_is_there_is_left_alone_and_what_is_missing_or_broken_is_written(folder, capsys):
    cifar10_png.write(folder, TRAINING, TEST, 2)
    few = stamps(folder)
    missing, empty, cut, *_ = few
    missing.unlink()
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:1500])
    cut.with_name(f"part.{cut.name}").write_bytes(b"what a killed call left")
    assert_same(cifar10_png.write(folder, TRAINING, TEST), (TRAINING, TEST))
    everything = stamps(folder)
    untouched = few.keys() - {missing, empty, cut}
    assert len(everything) == 300 and all(everything[path] == few[path] for path in untouched)
    cifar10_png.write(folder, TRAINING, TEST)
    assert stamps(folder) == everything
    assert capsys.readouterr().out.endswith("300 of 300 pictures, 0 of them new\n")


@pytest.mark.parametrize(
    "other", ["notes.txt", "train/frog/mine.png", "train/zebra/00000.png", "val/frog/a.png"]
)
def test_a_folder_that_holds_other_things_is_refused(folder, other):
    path = folder / other
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert f"{folder} holds more than these pictures" in refused(folder)
    assert path.read_text() == "mine" and len([*folder.rglob("*.*")]) == 1


def test_more_pictures_than_asked_for_are_not_deleted(folder):
    cifar10_png.write(folder, TRAINING, TEST)
    assert "holds more than these pictures" in refused(folder, 2)


def test_a_picture_of_the_same_name_is_not_overwritten(folder):
    cifar10_png.write(folder, TRAINING, TEST, 2)
    mine = next(folder.rglob("*.png"))
    Image.new("RGB", (64, 48), "red").save(mine)
    assert f"{mine} is another picture than CIFAR-10's" in refused(folder)


def test_what_file_managers_and_jupyter_leave_is_no_obstacle(folder):
    for name in (".DS_Store", "train/frog/Thumbs.db", "train/.ipynb_checkpoints/a.png", "test/cat/._0.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert_same(cifar10_png.write(folder, TRAINING, TEST), (TRAINING, TEST))


def test_a_file_where_the_folder_should_be_is_named(folder):
    folder.write_text("mine")
    message = refused(folder, error=OSError)
    assert message.startswith(f"{folder} cannot be written (") and "0 of 300 pictures are there" in message
    assert folder.read_text() == "mine"


# --- Interrupted


WRITE = """
import resource, sys
from pathlib import Path
import numpy as np
from helpers import cifar10_png, data
folder, arrays, limit = Path(sys.argv[1]), [*np.load(sys.argv[2]).values()], int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
cifar10_png.write(folder, data.Split(*arrays[:2]), data.Split(*arrays[2:]))
"""
on_posix = pytest.mark.skipif(os.name != "posix", reason="needs signals and limits on the size of files")


def start_to_write(folder, training, test, limit=10_000_000):
    """A process that writes, in which no file may be larger than the limit."""
    np.savez(folder.with_suffix(".npz"), *training, *test)
    command = [sys.executable, "-c", WRITE, folder, folder.with_suffix(".npz"), str(limit)]
    return subprocess.Popen(command, cwd=runs.ROOT, stderr=subprocess.PIPE, text=True)


@on_posix
def test_killed_in_the_middle_nothing_is_half_written_and_the_next_call_completes_it(folder):
    training = draw(2_000, seed=2)
    before = {}
    for awaited in (300, 900):
        path = folder / "train" / cifar10.CLASSES[training.labels[awaited]] / f"{awaited:05}.png"
        process = start_to_write(folder, training, TEST)
        while not path.exists():
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.001)
        process.kill()
        process.communicate()
        now = {path: stamp for path, stamp in stamps(folder).items() if not path.name.startswith("part.")}
        assert awaited < len(now) < 2_000 and before.items() <= now.items()
        found, _ = cifar10_png.load(folder)  # which decodes every one
        assert np.array_equal(found.images, training.images[: len(now)])
        before = now
    assert_same(cifar10_png.write(folder, training, TEST), (training, TEST))
    after = stamps(folder)
    assert len(after) == 2_100 and before.items() <= after.items()


@on_posix
def test_a_full_disk_is_named_and_the_next_call_completes_it(folder):
    """A process that may write no more than 1,000 bytes to a file stands in for a full disk."""
    training = data.Split(TRAINING.images.copy(), TRAINING.labels)
    training.images[:50] = 128  # of one colour they fit, noise doesn't
    _, stderr = start_to_write(folder, training, TEST, limit=1_000).communicate()
    there = "50 of 300 pictures are there, and the next call goes on"
    line = f"OSError: {folder} cannot be written (File too large): {there}"
    assert stderr.splitlines()[-1] == line
    before = stamps(folder)
    assert len(before) == 50
    assert_same(cifar10_png.write(folder, training, TEST), (training, TEST))
    assert before.items() <= stamps(folder).items()


# --- The real CIFAR-10


@needs_cifar10
def test_a_few_real_pictures_come_back(folder):
    original = data.load_cifar10_raw()
    training, test = cifar10_png.write(folder, *original, 20)
    indices = [int(path.stem) for path in sorted(folder.glob("train/*/*"), key=lambda path: path.name)]
    assert_same([training], [data.Split(*(array[indices] for array in original[0]))])
    sizes = [len(split.labels) for split in data.source(str(folder)).load()]
    assert sizes == [180, 20, 200]


@needs_cifar10
@pytest.mark.slow
def test_all_60_000_come_back_in_a_minute_and_are_divided_as_ever(folder):
    original = data.load_cifar10_raw()
    start = time.process_time()  # one thread: what an idle machine takes
    training, test = cifar10_png.write(folder, *original)
    assert time.process_time() - start < 60
    assert data.pixel_digest(training.images) == cifar10.TRAIN_SHA256
    assert_same((training, test), original)
    splits = data.source(str(folder)).load()
    assert [set(np.bincount(split.labels)) for split in splits] == [{4500}, {500}, {1000}]
    shutil.rmtree(folder)  # pytest would keep it for three sessions


# --- The notebook


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    server = Server(write_archive(tmp_path / "served" / cifar10.ARCHIVE).read_bytes())
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def repository(tmp_path, server):
    """A copy of this repository for which the small archive on the server is the right one."""
    root = tmp_path / "repository"
    shutil.copytree(runs.ROOT / "helpers", root / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    (root / NOTEBOOK).parent.mkdir()
    shutil.copyfile(runs.ROOT / NOTEBOOK, root / NOTEBOOK)
    source = (root / "helpers" / "cifar10.py").read_text()
    md5 = download.file_digest(tmp_path / "served" / cifar10.ARCHIVE, "md5")
    for old, new in ((cifar10.ARCHIVE_MD5, md5), (" = 10_000", f" = {BATCH_SIZE}")):
        assert source.count(old) == 1
        source = source.replace(old, new)
    (root / "helpers" / "cifar10.py").write_text(source)
    return root


def fetch(repository, url, *words):
    """Run the notebook on a machine without CIFAR-10."""
    environment = {k: v for k, v in os.environ.items() if k not in ("CIFAR10_DIR", "RUNS_DIR")}
    environment |= {"KERAS_HOME": str(repository / "keras"), "CIFAR10_URL": url}
    return execute(NOTEBOOK, repository, environment, *words)


@pytest.mark.slow
def test_the_notebook_downloads_and_writes_pictures_and_shows_them(repository, server, tmp_path):
    server.plan = ["cut off", "whole"]  # it goes on where the connection broke off
    status, _, said, figures = fetch(repository, server.url)
    assert status == 0 and figures == 1 and len(server.requests) == 2
    training, test = cifar10_png.load(repository / "runs" / "cifar10-pictures")
    planes, labels = zip(*map(small_batch, cifar10.BATCHES))
    expected = np.concatenate(planes).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(np.concatenate([training.images, test.images]), expected)
    assert np.array_equal(np.concatenate([training.labels, test.labels]), np.concatenate(labels))
    assert "cifar10-pictures: 120 of 120 pictures, 120 of them new" in said
    assert data.pixel_digest(training.images) in said
    words = ("-p", "folder", str(tmp_path / "mine"), "-p", "pictures_per_class", "1")
    assert fetch(repository, server.url, *words)[0] == 0
    assert len(stamps(tmp_path / "mine")) == 20 and len(server.requests) == 2  # no second download


@pytest.mark.slow
def test_a_wrong_file_ends_the_notebook_with_one_clear_line(repository, server):
    server.plan = ["wrong"]
    status, (line,), _, _ = fetch(repository, server.url)
    assert status == 1 and line.startswith("ValueError: CIFAR-10 is not here and cannot be downloaded")
    assert "is not the right file (md5" in line and not (repository / "runs").exists()


@pytest.mark.slow
def test_without_network_the_notebook_says_so_in_one_line_and_goes_on(repository, server):
    server.plan = [404]
    status, _, said, figures = fetch(repository, server.url)
    assert status == 0 and figures == 0 and not (repository / "runs").exists()
    assert said.startswith("CIFAR-10 is not here and cannot be downloaded") and said.count("\n") == 1


@pytest.mark.slow
def test_a_published_notebook_runs_on_the_pictures(folder, tmp_path):
    """Through the batch runner, as the notebook advises: the one that trains nothing."""
    cifar10_png.write(folder, draw(600, seed=0), TEST)
    command = [sys.executable, "train_model.py", "01", "--data", str(folder), "--out", str(tmp_path / "out")]
    environment = os.environ | {"RUNS_DIR": str(tmp_path / "runs")}
    done = subprocess.run(command, cwd=runs.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (record,) = (tmp_path / "runs").glob("*/*/seed-0/record.json")
    sizes = [files.read_json(record)["data"][part] for part in ("train", "validation", "test")]
    assert sizes == [540, 60, 100]
