"""Data against real files: archives and pictures made on the spot, and an HTTP server that misbehaves."""

import gzip
import hashlib
import http.server
import io
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import cifar10, data, download, sample

BATCH_SIZE = 20  # of the small stand-in for CIFAR-10
needs_cifar10 = pytest.mark.skipif(
    not os.environ.get("CIFAR10_DIR"),
    reason="needs the real CIFAR-10: set CIFAR10_DIR",
)


# --- A small stand-in, byte for byte in the authors' two layouts


def small_batch(name):
    random = np.random.RandomState(cifar10.BATCHES.index(name))
    return random.randint(0, 256, (BATCH_SIZE, 3072), np.uint8), np.arange(BATCH_SIZE, dtype=np.uint8) % 10


def binary(planes, labels):
    return np.concatenate([labels[:, None], planes], axis=1).tobytes()


def pickled(planes, labels):
    """Opcodes as Python 2's cPickle wrote them: {"labels": [...], "data": an array of uint8}."""
    return b"".join(
        (
            b"\x80\x02}(U\x06labels](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e",
            b"U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R",
            b"(K\x01K" + bytes([len(planes)]) + b"M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R",
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + planes.nbytes.to_bytes(4, "little") + planes.tobytes() + b"tbu.",
        )
    )


LAYOUTS = {"cifar-10-batches-bin": (".bin", binary), "cifar-10-batches-py": ("", pickled)}


def write_batches(root, layout="cifar-10-batches-bin"):
    suffix, encode = LAYOUTS[layout]
    folder = root / layout
    folder.mkdir(parents=True)
    for name in cifar10.BATCHES:
        (folder / (name + suffix)).write_bytes(encode(*small_batch(name)))
    return folder


def write_archive(path, layout="cifar-10-batches-bin"):
    folder = write_batches(path.parent / f"unpacked-{path.name}", layout)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, layout)
    return path


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without CIFAR-10, on which batches are small: its Keras cache."""
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(cifar10, "BATCH_SIZE", BATCH_SIZE)
    monkeypatch.setattr(data, "CIFAR10_SIZES", (90, 10, 20))
    cache = tmp_path / "keras" / "datasets"
    cache.mkdir(parents=True)
    return cache


def one_line(caught):
    """The message of an error meant for a person."""
    message = str(caught.value)
    assert message and "\n" not in message
    return message


# --- Finding and reading CIFAR-10


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", ["folder", "parent", "archive", "folder with archive"])
def test_cifar10_is_read_from_every_layout(machine, tmp_path, monkeypatch, layout, form):
    if "archive" in form:
        name = "cifar-10-python.tar.gz" if layout.endswith("py") else cifar10.ARCHIVE
        place = write_archive(tmp_path / name, layout)
        place = tmp_path if form == "folder with archive" else place
    else:
        place = write_batches(tmp_path, layout)
        place = tmp_path if form == "parent" else place
    monkeypatch.setenv("CIFAR10_DIR", str(place))
    train, test = data.load_cifar10_raw()
    assert train.images.shape == (100, 32, 32, 3) and train.images.dtype == np.uint8
    planes, labels = small_batch("data_batch_3")
    assert train.images[45, 7, 9].tolist() == [planes[5, 1024 * c + 32 * 7 + 9] for c in range(3)]
    assert (train.labels[40:60] == labels).all()
    assert (test.images[3, :, :, 2].ravel() == small_batch("test_batch")[0][3, 2048:]).all()


def test_places_are_searched_in_the_documented_order(machine, tmp_path, monkeypatch):
    own = write_archive(machine / cifar10.ARCHIVE)
    unpacked = write_batches(machine / "cifar-10-batches-py-target", "cifar-10-batches-py")
    keras = write_archive(machine / cifar10.KERAS_ARCHIVE, "cifar-10-batches-py")
    named = write_batches(tmp_path / "named")
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", download.file_digest(own, "md5"))
    monkeypatch.setattr(cifar10, "KERAS_SHA256", download.file_digest(keras, "sha256"))
    monkeypatch.setenv("CIFAR10_DIR", str(named))
    assert cifar10.find() == named
    monkeypatch.delenv("CIFAR10_DIR")
    assert cifar10.find() == keras
    keras.unlink()
    assert cifar10.find() == unpacked
    (unpacked / "test_batch").unlink()
    assert cifar10.find() == own
    own.unlink()
    assert cifar10.find() is None


def test_a_damaged_archive_of_keras_is_named_left_alone_and_not_used(machine):
    keras = write_archive(machine / cifar10.KERAS_ARCHIVE, "cifar-10-batches-py")
    before = keras.read_bytes()
    with pytest.warns(UserWarning, match=f"{cifar10.KERAS_ARCHIVE} is damaged"):
        assert cifar10.find() is None
    assert keras.read_bytes() == before


def test_absent_cifar10_is_known_by_the_published_pixels(machine):
    source = data.source("cifar10", train_images=45)
    assert not source.at_hand and source.shown() is None and source.classes[0] == "airplane"
    assert source.identity["published"] and source.identity["train_sha256"] == cifar10.TRAIN_SHA256
    assert [source.identity[part] for part in ("train", "validation", "test")] == [45, 5, 10]


def test_other_pixels_are_not_taken_for_the_published_ones(machine, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR10_DIR", str(write_batches(tmp_path)))
    source = data.source()
    train, _ = data.load_cifar10_raw()
    assert source.at_hand and not source.identity["published"]
    assert source.identity["train_sha256"] == hashlib.sha256(train.images.tobytes()).hexdigest()


def test_cifar10_dir_without_cifar10_is_an_error(machine, tmp_path, monkeypatch):
    for place in (tmp_path, "~nobody-of-this-name/pictures"):
        monkeypatch.setenv("CIFAR10_DIR", str(place))
        with pytest.raises(FileNotFoundError) as caught:
            data.source()
        assert f"CIFAR10_DIR={place} holds no CIFAR-10" in one_line(caught)


def refused(monkeypatch, path):
    """What is said on reading a bad folder or archive, which stays as it was."""
    monkeypatch.setenv("CIFAR10_DIR", str(path))
    files = [path] if path.is_file() else sorted(path.iterdir())
    before = [file.read_bytes() for file in files]
    with pytest.raises(ValueError) as caught:
        data.source().load()
    assert [file.read_bytes() for file in files] == before
    return one_line(caught)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_truncated_batch_is_named(machine, tmp_path, monkeypatch, layout):
    folder = write_batches(tmp_path, layout)
    batch = next(folder.glob("data_batch_4*"))
    batch.write_bytes(batch.read_bytes()[:-100])
    message = refused(monkeypatch, folder)
    assert f"{batch.name} is damaged or cut off" in message


def test_labels_out_of_range_are_named(machine, tmp_path, monkeypatch):
    folder = write_batches(tmp_path)
    planes, labels = small_batch("test_batch")
    (folder / "test_batch.bin").write_bytes(binary(planes, labels + 1))
    assert "test_batch.bin is damaged: its labels" in refused(monkeypatch, folder)


class Hostile:
    """Pickles into a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("function", [os.system, eval])
def test_a_pickle_that_calls_something_is_refused(machine, tmp_path, monkeypatch, function, protocol):
    folder = write_batches(tmp_path, "cifar-10-batches-py")
    mark = tmp_path / "called"
    argument = f"touch {mark}" if function is os.system else f"open({str(mark)!r}, 'w')"
    content = pickle.dumps({"data": Hostile(function, argument), "labels": []}, protocol)
    (folder / "data_batch_1").write_bytes(content)
    message = refused(monkeypatch, folder)
    assert "data_batch_1 is not one of the authors' batches and was not read" in message
    assert function.__name__ in message
    assert not mark.exists()
    pickle.loads(content)  # harmful to whoever trusts it, so the test means something
    assert mark.exists()


@pytest.mark.parametrize("bytes_kept", [0, 40, 20_000])
def test_a_truncated_archive_is_named(machine, tmp_path, monkeypatch, bytes_kept):
    archive = write_archive(tmp_path / "cifar.tar.gz")
    archive.write_bytes(archive.read_bytes()[:bytes_kept])
    assert f"{archive} is damaged or cut off" in refused(monkeypatch, archive)


def test_a_flipped_bit_in_an_archive_is_noticed(machine, tmp_path, monkeypatch):
    """Pixels stored uncompressed decode all the same: only gzip's check sum, at the very end, tells."""
    archive = write_archive(tmp_path / "cifar.tar.gz")
    content = bytearray(gzip.compress(gzip.decompress(archive.read_bytes()), compresslevel=0))
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    assert f"{archive} is damaged or cut off" in refused(monkeypatch, archive)


@pytest.mark.parametrize("name, link", [("../evil", None), ("a/../../evil", None), ("evil", "/etc/passwd")])
def test_an_archive_that_leads_out_of_its_folder_is_refused(machine, tmp_path, monkeypatch, name, link):
    archive = tmp_path / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        if link:
            member.type, member.linkname = tarfile.SYMTYPE, link
        tar.addfile(member, io.BytesIO())
        tar.add(write_batches(tmp_path), "cifar-10-batches-bin")
    assert f"is not one of the authors' archives: it holds {name}" in refused(monkeypatch, archive)
    assert not (tmp_path.parent / "evil").exists()


def test_an_archive_without_a_batch_is_named(machine, tmp_path, monkeypatch):
    folder = write_batches(tmp_path)
    (folder / "data_batch_2.bin").unlink()
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    assert "data_batch_2 missing" in refused(monkeypatch, tmp_path / "cifar.tar.gz")


# --- Downloading


class Server:
    """A real HTTP server for one file. `plan` says how it treats each request, its last entry all others."""

    def __init__(self, content):
        self.content = content
        self.plan = ["whole"]
        self.requests = []  # the Range header of each
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802
                server.answer(self)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/cifar-10-binary.tar.gz"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, request):
        self.requests.append(request.headers.get("Range"))
        behaviour = self.plan.pop(0) if len(self.plan) > 1 else self.plan[0]
        if isinstance(behaviour, int):
            return request.send_error(behaviour)
        content = b"<html>Please log in</html>" if behaviour == "wrong" else self.content
        start = int(re.findall(r"\d+", request.headers.get("Range", "0"))[0])
        if behaviour == "no ranges":
            start = 0
        if start >= len(content):
            return request.send_error(416)
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", len(content) - start)
        request.end_headers()
        middle = start + (len(content) - start + 1) // 2
        request.wfile.write(content[start:middle])
        if behaviour == "cut off":
            return None
        if behaviour in ("slow", "stalled"):
            request.wfile.flush()
            time.sleep(1 if behaviour == "stalled" else 0.2)
        request.wfile.write(content[middle:])


@pytest.fixture
def server(machine, tmp_path, monkeypatch):
    """Serves the small stand-in, which is the only source that this machine has."""
    (tmp_path / "served").mkdir()
    archive = write_archive(tmp_path / "served" / cifar10.ARCHIVE)
    server = Server(archive.read_bytes())
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", download.file_digest(archive, "md5"))
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setenv("CIFAR10_URL", server.url)
    yield server
    server.http.shutdown()
    server.http.server_close()


def downloaded(cache):
    """What a download left in the cache, but for the lock, which nobody holds."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_a_download_is_whole_and_tells_of_its_progress(server, machine, capsys):
    splits = data.source().load()
    assert [len(split.labels) for split in splits] == [90, 10, 20]
    assert downloaded(machine) == [cifar10.ARCHIVE]
    assert (machine / cifar10.ARCHIVE).read_bytes() == server.content
    assert f"{cifar10.ARCHIVE}: 0 of 0 MB" in capsys.readouterr().out
    data.load_cifar10_raw()
    assert len(server.requests) == 1  # a second time it is at hand


@pytest.mark.parametrize("plan", [["cut off", "whole"], ["cut off"], ["stalled", "whole"], ["slow"]])
def test_a_download_is_resumed_where_it_broke_off(server, machine, monkeypatch, plan):
    monkeypatch.setattr(download, "STALL_SECONDS", 0.5)
    server.plan = list(plan)
    cifar10.obtain()
    assert (machine / cifar10.ARCHIVE).read_bytes() == server.content
    if plan == ["slow"]:
        assert server.requests == [None]
    else:
        assert server.requests[1] == f"bytes={(len(server.content) + 1) // 2}-"


def test_a_server_without_ranges_starts_over(server, machine):
    server.plan = ["cut off", "no ranges"]
    cifar10.obtain()
    assert (machine / cifar10.ARCHIVE).read_bytes() == server.content


def test_two_that_download_at_once_download_once(server, machine):
    """A second one waits for the first; the lock of a process that was killed holds nobody up."""
    lock = machine / f"{cifar10.ARCHIVE}.lock"
    hold = f"from filelock import FileLock; FileLock({str(lock)!r}).acquire(); print(1, flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", hold], **pipes) as holder:
        assert holder.stdout.readline()
        holder.kill()
    server.plan = ["slow"]
    with ThreadPoolExecutor() as pool:
        assert {*pool.map(lambda _: cifar10.obtain(), range(2))} == {machine / cifar10.ARCHIVE}
    assert server.requests == [None] and downloaded(machine) == [cifar10.ARCHIVE]


@pytest.mark.parametrize("leftover", [b"damaged", bytes(1_000_000)])
def test_a_damaged_leftover_is_downloaded_anew(server, machine, leftover):
    (machine / f"{cifar10.ARCHIVE}.part").write_bytes(leftover)
    cifar10.obtain()
    assert downloaded(machine) == [cifar10.ARCHIVE]
    assert (machine / cifar10.ARCHIVE).read_bytes() == server.content


def test_a_failing_server_is_tried_again(server, machine):
    server.plan = [503, 500, "whole"]
    cifar10.obtain()
    assert len(server.requests) == 3


def failed_download(error):
    with pytest.raises(error) as caught:
        data.source().load()
    message = one_line(caught)
    assert message.startswith("CIFAR-10 is not here and cannot be downloaded")
    assert "CIFAR10_DIR" in message and cifar10.URL in message
    return message


def test_wrong_content_is_not_kept(server, machine):
    server.plan = ["wrong"]
    assert "is not the right file (md5" in failed_download(ValueError)
    assert downloaded(machine) == []


def test_a_missing_file_is_said_at_once(server, machine):
    server.plan = [404]
    assert "the server answers 404" in failed_download(ConnectionError)
    assert len(server.requests) == 1 and downloaded(machine) == []


def test_a_server_that_keeps_failing_is_given_up_on(server, machine):
    server.plan = ["cut off", 500]
    failed_download(ConnectionError)
    assert len(server.requests) == 1 + download.ATTEMPTS
    assert downloaded(machine) == [f"{cifar10.ARCHIVE}.part"]  # to be resumed another day
    server.plan = ["whole"]
    cifar10.obtain()
    assert downloaded(machine) == [cifar10.ARCHIVE]


@pytest.mark.parametrize("network", ["silent", "refusing"])
def test_a_closed_network_is_noticed_within_10_seconds(machine, monkeypatch, network):
    assert download.CONNECT_SECONDS < 9
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if network == "silent":
            listener.listen(1)  # connects, but nobody ever answers
            monkeypatch.setattr(download, "CONNECT_SECONDS", 0.5)
        else:
            monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.01)
        monkeypatch.setenv("CIFAR10_URL", f"http://127.0.0.1:{listener.getsockname()[1]}/")
        start = time.monotonic()
        failed_download(ConnectionError)
        assert time.monotonic() - start < 2


def test_our_own_archive_is_not_replaced_when_damaged(server, machine):
    own = machine / cifar10.ARCHIVE
    own.write_bytes(b"half of it")
    with pytest.raises(ValueError) as caught, pytest.warns(UserWarning, match="damaged"):
        data.source().load()
    assert f"{own} is damaged: move it away" in one_line(caught)
    assert own.read_bytes() == b"half of it" and server.requests == []


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    assert f"{tmp_path / 'file'}" in failed_download(NotADirectoryError)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permissions are another matter on Windows")
def test_a_cache_without_permission_is_named(server, monkeypatch):
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as place:
        monkeypatch.setenv("KERAS_HOME", place)
        os.chmod(place, 0o555)
        if user == 0:
            os.seteuid(65_534)  # root may write anywhere, nobody may not
        try:
            assert "cannot be written (Permission denied)" in failed_download(PermissionError)
        finally:
            os.seteuid(user)


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_full_disk_is_named(server, machine):
    """A process that may write no more than 1,000 bytes to a file stands in for a full disk."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from helpers import cifar10; cifar10.obtain()"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert "cannot be written (File too large)" in done.stderr.splitlines()[-1]
    assert downloaded(machine) == [f"{cifar10.ARCHIVE}.part"]


# --- The split


@needs_cifar10
def test_the_published_split_of_cifar10_never_changes():
    source = data.source("cifar10")
    splits = source.load()
    assert source.identity["published"]
    assert [split.images.shape for split in splits] == [(n, 32, 32, 3) for n in (45_000, 5_000, 10_000)]
    assert [set(np.bincount(split.labels)) for split in splits] == [{4500}, {500}, {1000}]
    validation = "ca769145bdb2e0bd03bcd30c1c6a007af3aac5221131c6a45a698ccad67c2e93"
    assert data.pixel_digest(splits.validation.images) == validation
    assert all(split.images.dtype == np.uint8 and split.images.base is None for split in splits)


def test_the_split_never_changes_whatever_the_pixels():
    chosen = data.stratified(np.arange(50_000) % 10, 5_000).astype("<i8")
    assert hashlib.sha256(chosen.tobytes()).hexdigest().startswith("39010c31f7e19609")


def test_splits_are_disjoint_stratified_and_always_the_same(machine, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR10_DIR", str(write_batches(tmp_path)))
    train, validation, test = data.source().load()
    counts = [np.bincount(split.labels).tolist() for split in (train, validation, test)]
    assert counts == [[9] * 10, [1] * 10, [2] * 10]
    pixels = [{image.tobytes() for image in split.images} for split in (train, validation, test)]
    assert len(set.union(*pixels)) == 120
    np.random.seed(1)  # nobody else's randomness moves an image
    again = data._cifar10_at.__wrapped__(cifar10.find())[0]
    assert (again.validation.images == validation.images).all()


def test_a_share_is_given_to_every_class():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    for count in (10, 11, 37, 100):
        chosen = data.stratified(labels, count)
        assert len(set(chosen)) == count
        assert np.abs(np.bincount(labels[chosen]) - np.array([0.5, 0.3, 0.2]) * count).max() < 1


def test_small_training_sets_are_nested_and_shrink_the_rest_in_proportion():
    small, large = (data.source("sample", train_images=n).load() for n in (90, 900))
    assert [len(split.labels) for split in small] == [90, 10, 20]
    assert {i.tobytes() for i in small.train.images} < {i.tobytes() for i in large.train.images}
    assert data.source("sample", train_images=10).identity["validation"] == 1
    everything = data.source("sample", train_images=45_000)
    assert [everything.identity[part] for part in ("train", "validation", "test")] == [4500, 500, 1000]


@pytest.mark.parametrize("count", [0, -1, 9, 2.5, "100", True])
def test_a_senseless_number_of_training_images_is_refused(count):
    with pytest.raises(ValueError) as caught:
        data.source("sample", train_images=count)
    assert f"train_images must be a whole number, 10 or more, not {count!r}" == one_line(caught)


@pytest.mark.parametrize(
    "name, part", [("cifar01", "did you mean 'cifar10'?"), ("Sample", "did you mean 'sample'?")]
)
def test_an_unknown_data_set_is_refused_with_the_nearest_name(name, part):
    with pytest.raises(ValueError) as caught:
        data.source(name)
    assert part in one_line(caught)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        data.source(str(tmp_path / "pictures"))
    assert "there is no such folder" in one_line(caught)


def test_only_folders_have_an_image_size():
    with pytest.raises(ValueError) as caught:
        data.source("sample", image_size=64)
    assert "sample is 32x32" in one_line(caught)


# --- Folders of pictures


def write_pictures(folder, count, colour, size=(40, 30), first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        Image.new("RGB", size, (colour[0], colour[1], i)).save(folder / f"{i:03}.png")


@pytest.fixture
def pictures(tmp_path):
    """Thirty pictures each of cats (reddish) and dogs (greenish)."""
    write_pictures(tmp_path / "pets" / "dogs", 30, (20, 200))
    write_pictures(tmp_path / "pets" / "cats", 30, (200, 20))
    return tmp_path / "pets"


def test_a_folder_of_classes_is_split(pictures):
    source = data.source(str(pictures), image_size=16)
    splits = source.load()
    assert source.name == "folder:pets" and source.classes == ("cats", "dogs")
    assert not source.identity["published"]
    assert [np.bincount(split.labels).tolist() for split in splits] == [[24, 24], [3, 3], [3, 3]]
    assert splits.train.images.shape == (48, 16, 16, 3)
    for split in splits:
        assert ((split.images[:, 8, 8, 0] > 100) == (split.labels == 0)).all()
    assert {*splits.train.labels[:10]} == {0, 1}  # mixed


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_divided_folder_keeps_its_division(tmp_path, name):
    for part, first in (("train", 0), (name, 100), ("test", 200)):
        write_pictures(tmp_path / part / "cats", 5, (200, 20), first=first)
        write_pictures(tmp_path / part / "dogs", 4, (20, 200), first=first)
    splits = data.source(str(tmp_path), image_size=8).load()
    blue = [sorted(split.images[split.labels == 0][:, 4, 4, 2]) for split in splits]
    assert blue == [[*range(5)], [*range(100, 105)], [*range(200, 205)]]
    assert [len(split.labels) for split in data.source(str(tmp_path), train_images=2).load()] == [2, 2, 2]
    write_pictures(tmp_path / "more" / "cats", 5, (200, 20))
    with pytest.raises(ValueError, match=f"more stands beside test, train, {name}, and is none of train,"):
        data.source(str(tmp_path))


@pytest.mark.parametrize("train, test", [("Train", "Test"), ("training", "testing")])
def test_a_division_is_known_by_other_names_too(tmp_path, train, test):
    for part, first in ((train, 0), (test, 200)):
        write_pictures(tmp_path / part / "cats", 20, (200, 20), first=first)
        write_pictures(tmp_path / part / "dogs", 20, (20, 200), first=first)
    found = data.source(str(tmp_path))
    assert found.classes == ("cats", "dogs") and len(found.load().test.labels) == 40
    (tmp_path / train).rename(tmp_path / "val")
    with pytest.raises(ValueError, match=f"divided into {test}, val: exactly one must be train"):
        data.source(str(tmp_path))


def test_the_identity_of_a_folder_covers_pixels_and_labels_of_all_parts(pictures):
    def digest():
        return data.source(str(pictures)).identity["train_sha256"]

    seen = [digest()]
    assert digest() == seen[0]
    write_pictures(pictures / "cats", 30, (201, 20))
    seen.append(digest())
    for part in ("train", "test"):
        write_pictures(pictures / part / "cats", 5, (200, 20))
        write_pictures(pictures / part / "dogs", 5, (20, 200))
    for cats in (pictures / "cats", pictures / "dogs"):
        shutil.rmtree(cats)
    seen.append(digest())
    (pictures / "train" / "cats" / "000.png").rename(pictures / "train" / "dogs" / "100.png")
    seen.append(digest())
    write_pictures(pictures / "test" / "dogs", 1, (21, 201))
    seen.append(digest())
    assert len(set(seen)) == len(seen)


def test_what_lies_deeper_is_found_and_what_is_no_picture_is_told(pictures, capsys):
    write_pictures(pictures / "cats" / "2020" / "may", 10, (200, 20), first=100)
    (pictures / "dogs" / "000.json").write_text("{}")
    for name in (".hidden", "Thumbs.db"):
        (pictures / "dogs" / name).write_text("of the system")
    splits = data.source(str(pictures)).load()
    assert sum(len(split.labels) for split in splits) == 70
    assert "1 files are no pictures by their names, the first 000.json" in capsys.readouterr().out


def test_a_class_may_be_called_train(tmp_path):
    for name, colour in (("plane", (20, 200)), ("train", (200, 20))):
        write_pictures(tmp_path / name, 30, colour)
    assert data.source(str(tmp_path)).classes == ("plane", "train")


def test_a_few_unreadable_pictures_are_listed_and_left_out(pictures, capsys):
    (pictures / "cats" / "broken.jpg").write_bytes(b"no picture")
    whole = (pictures / "dogs" / "000.png").read_bytes()
    (pictures / "dogs" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "dogs" / "gone.png").symlink_to(pictures / "nowhere.png")
    splits = data.source(str(pictures)).load()
    assert sum(len(split.labels) for split in splits) == 60
    said = capsys.readouterr().out
    assert "3 of 63 pictures cannot be read" in said
    assert all(name in said for name in ("broken.jpg", "cut.png", "gone.png"))


def bad_folder(path):
    with pytest.raises(ValueError) as caught:
        data.source(str(path)).load()
    return one_line(caught)


def test_many_unreadable_pictures_are_an_error(pictures):
    for i in range(10):
        (pictures / "cats" / f"broken{i}.jpg").write_bytes(b"no picture")
    assert "10 of 70 pictures cannot be read" in bad_folder(pictures)


def test_an_empty_folder_is_refused(tmp_path):
    assert f"{tmp_path} holds no pictures" in bad_folder(tmp_path)
    (tmp_path / "cats").mkdir()
    assert "holds no pictures" in bad_folder(tmp_path)


def test_one_class_is_refused(tmp_path):
    write_pictures(tmp_path / "cats", 30, (200, 20))
    assert "one class only (cats)" in bad_folder(tmp_path)


def test_a_class_without_pictures_enough_is_named(pictures):
    write_pictures(pictures / "birds", 0, (0, 0))
    assert "class 'birds' has too few pictures" in bad_folder(pictures)


def test_a_class_without_training_pictures_is_named_where_test_has_its_own(tmp_path):
    for part, names in {"train": ("cats", "dogs"), "test": ("cats", "dogs")}.items():
        for name in names:
            write_pictures(tmp_path / part / name, 0 if (part, name) == ("train", "dogs") else 3, (0, 90))
    assert "class 'dogs' has too few pictures" in bad_folder(tmp_path)


def test_a_part_so_small_that_a_class_has_nothing_in_it_is_refused(tmp_path):
    write_pictures(tmp_path / "cats", 60, (200, 20))
    write_pictures(tmp_path / "dogs", 10, (20, 200))
    assert len(data.source(str(tmp_path), train_images=20).load().train.labels) == 20
    with pytest.raises(ValueError, match="class 'dogs' has too few pictures for train_images=3: raise it"):
        data.source(str(tmp_path), train_images=3).load()


def test_a_test_class_that_was_never_trained_is_named(tmp_path):
    write_pictures(tmp_path / "train" / "cats", 10, (200, 20))
    write_pictures(tmp_path / "train" / "dogs", 10, (20, 200))
    write_pictures(tmp_path / "test" / "birds", 3, (20, 200))
    assert f"{tmp_path / 'test' / 'birds'} is no class" in bad_folder(tmp_path)


# --- The sample


def test_the_sample_is_quick_and_the_same_for_everybody():
    start = time.process_time()
    pixels, labels = sample.draw(5_000)
    assert time.process_time() - start < 2
    assert pixels.shape == (5_000, 32, 32, 3) and pixels.dtype == np.uint8
    assert set(np.bincount(labels)) == {500}
    few, other = sample.draw(50)[0], sample.draw(50, seed=1)[0]
    assert (sample.draw(50)[0] == few).all() and (other != few).any()
    means = [109.5, 119.9, 82.3, 120.1, 55.4, 152.9, 100.3, 104.3, 36.3, 86.0]  # as first published
    np.testing.assert_allclose(few[:10].mean(axis=(1, 2, 3)), means, atol=0.2)
    assert not data.source("sample").identity["published"]


def test_the_sample_is_too_hard_for_a_linear_model():
    from sklearn.linear_model import RidgeClassifier

    train, _, test = data.source("sample", train_images=2_000).load()
    flat = [split.images.reshape(len(split.labels), -1).astype(np.float32) / 255 for split in (train, test)]
    assert RidgeClassifier(alpha=100).fit(flat[0], train.labels).score(flat[1], test.labels) < 0.6


def test_the_sample_is_easy_for_a_small_cnn():
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((32, 32, 3)), layers.Rescaling(1 / 127.5, -1)])
    for filters, width in ((24, 5), (48, 3)):
        model.add(layers.Conv2D(filters, width, strides=2, padding="same"))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
    model.add(layers.Flatten())
    model.add(layers.Dense(10))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    train, _, test = data.source("sample", train_images=3_000).load()
    model.fit(train.images, train.labels, batch_size=50, epochs=4, verbose=0)
    assert model.evaluate(test.images, test.labels, verbose=0)[1] > 0.9
