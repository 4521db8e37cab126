"""Tiny-ImageNet in its layouts: the copy at 32x32, CS231n's archive, and what it unpacks to."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from helpers import data, runs, tiny_imagenet

CLASSES = ("n01443537", "n01629819", "n02666196")


def jpeg(size, shade):
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (shade, 255 - shade, 90)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def original_layout():
    """{name: content} as in CS231n's archive, with 64x64 pictures."""
    files, lines = {}, []
    for number, name in enumerate(CLASSES):
        for i in range(3):
            shade = 60 * number + 10 * i
            files[f"tiny-imagenet-200/train/{name}/images/{name}_{i}.JPEG"] = jpeg(64, shade)
            files[f"tiny-imagenet-200/val/images/val_{number}{i}.JPEG"] = jpeg(64, shade + 5)
            lines.append(f"val_{number}{i}.JPEG\t{name}\t0\t0\t62\t62")
    files["tiny-imagenet-200/val/val_annotations.txt"] = "\n".join(lines).encode()
    files["tiny-imagenet-200/test/images/test_0.JPEG"] = jpeg(64, 0)
    return files


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / tiny_imagenet.ARCHIVE
    with zipfile.ZipFile(path, "w") as file:
        for name, content in original_layout().items():
            file.writestr(name, content)
    return path


@pytest.fixture
def small_copy(tmp_path):
    for number, name in enumerate(CLASSES):
        for part in ("train", "val"):
            folder = tmp_path / "copy" / part / name
            folder.mkdir(parents=True)
            for i in range(2):
                (folder / f"{i}.jpg").write_bytes(jpeg(32, 60 * number + 10 * i))
    return tmp_path / "copy"


@pytest.mark.parametrize("part", ["train", "val"])
def test_the_archive_and_its_unpacked_folder_give_the_same(archive, tmp_path, part):
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    wanted = CLASSES[:2]
    images, labels = tiny_imagenet.read(archive, part, wanted)
    unpacked, same_labels = tiny_imagenet.read(tmp_path / "tiny-imagenet-200", part, wanted)
    np.testing.assert_array_equal(images, unpacked)
    np.testing.assert_array_equal(labels, same_labels)
    assert images.shape == (6, 32, 32, 3) and labels.tolist() == [0, 0, 0, 1, 1, 1]
    reds = images[:, 16, 16, 0].astype(int)
    expected = np.array([60 * n + 10 * i + 5 * (part == "val") for n in range(2) for i in range(3)])
    assert np.abs(reds - expected).max() <= 4  # JPEG


def test_the_copy_at_32_pixels_is_read_as_it_is(small_copy):
    images, labels = tiny_imagenet.read(small_copy, "val", CLASSES)
    assert images.shape == (6, 32, 32, 3) and labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_found_by_its_variable_or_in_the_cache(archive, small_copy, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("TINY_IMAGENET_DIR", raising=False)
    assert tiny_imagenet.find() is None and not data.source("tiny-imagenet").at_hand
    cache = tmp_path / "keras" / "datasets"
    cache.mkdir(parents=True)
    archive.rename(cache / tiny_imagenet.ARCHIVE)
    assert tiny_imagenet.find() == cache / tiny_imagenet.ARCHIVE
    monkeypatch.setenv("TINY_IMAGENET_DIR", str(small_copy))
    assert tiny_imagenet.find() == small_copy
    for nowhere in (str(tmp_path / "nowhere"), "~nobody-of-this-name/pictures"):
        monkeypatch.setenv("TINY_IMAGENET_DIR", nowhere)
        with pytest.raises(FileNotFoundError, match=f"TINY_IMAGENET_DIR={nowhere} holds no Tiny-ImageNet"):
            tiny_imagenet.find()


def test_what_is_missing_or_damaged_is_said_in_a_line(archive, small_copy):
    with pytest.raises(ValueError, match="not all of it: 1 classes missing"):
        tiny_imagenet.read(small_copy, "train", (*CLASSES, "n99999999"))
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(ValueError, match="damaged or cut off"):
        tiny_imagenet.read(archive, "train", CLASSES)
    (small_copy / "train" / CLASSES[0] / "0.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="train/n01443537/0.jpg cannot be read"):
        tiny_imagenet.read(small_copy, "train", CLASSES)


def test_absent_it_is_known_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("TINY_IMAGENET_DIR", raising=False)
    identity = data.source("tiny-imagenet").identity
    assert identity["published"] and len(identity["classes"]) == 180
    assert (
        tuple(identity[part] for part in ("train", "validation", "test"))
        == runs.PUBLISHED_SIZES["tiny-imagenet"]
    )


def test_a_copy_with_other_pixels_is_never_taken_for_the_published_one(small_copy, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("TINY_IMAGENET_DIR", raising=False)
    monkeypatch.setattr(tiny_imagenet, "CLASSES", CLASSES)
    source = data.source("tiny-imagenet")
    assert source.identity["published"]
    monkeypatch.setenv("TINY_IMAGENET_DIR", str(small_copy))  # as if downloaded when the pixels were needed
    with pytest.raises(ValueError, match="this copy of tiny-imagenet has other pixels .* run this again"):
        source.load()
    assert source.shown() is None  # in no figure beside the published evidence either
    own = data.source("tiny-imagenet")
    assert not own.identity["published"] and len(own.shown().train.labels) == 6
    pixels, labels = tiny_imagenet.read(small_copy, "val", CLASSES)
    tested = data.stratified(labels, 3)  # one half of these pictures; the other one validates
    np.testing.assert_array_equal(own.load().test.images, pixels[tested])
    monkeypatch.setattr(runs, "RUNS", tmp_path / "runs")
    assert "no evidence yet for these pixels" in runs.start("pretrain", source=own).outlook()
    monkeypatch.setenv("EVIDENCE", "read")
    assert data.source("tiny-imagenet").identity == source.identity
    assert data.source("tiny-imagenet").shown() is None


def test_twenty_classes_are_held_out():
    assert len(tiny_imagenet.HELD_OUT) == 20 and len(tiny_imagenet.CLASSES) == 180
    assert len({*tiny_imagenet.HELD_OUT, *tiny_imagenet.CLASSES}) == 200
