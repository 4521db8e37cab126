"""Files in model/ and source weights: small, described, checked; what is wrong is said in a line."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from helpers import model_files, runs, source_weights, vgg16


@pytest.fixture(scope="module")
def network():
    network = vgg16.plain(10)
    network.get_layer("block1_conv1").kernel.assign(np.full((3, 3, 3, 64), 0.1))  # no float16 number
    return network


@pytest.fixture(scope="module")
def model_file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.keras"
    model_files.save(vgg16.for_pictures(network), path)
    model_files.describe(path, classes=["a", "b"])
    return path


@pytest.fixture(scope="module")
def weights_file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "own.weights.h5"
    model_files.save(source_weights.as_application(network), path)
    return path


def test_a_stored_model_is_half_as_large_and_computes_nearly_the_same(network, model_file):
    assert model_file.stat().st_size < 0.52 * 4 * network.count_params()
    loaded = keras.models.load_model(model_file, safe_mode=True)
    assert {weight.dtype for weight in loaded.weights} == {"float32"}
    stored, exact = loaded.get_layer("block1_conv1").get_weights()[0], np.float32(0.1)
    assert np.unique(stored) == np.float16(0.1).astype("float32") != exact
    pictures = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("uint8")
    expected = network.predict(pictures, verbose=0)
    np.testing.assert_allclose(loaded.predict(pictures, verbose=0), expected, atol=5e-3 * abs(expected).max())


def test_it_needs_nothing_of_this_project_to_be_opened(model_file):
    import zipfile

    config = json.loads(zipfile.ZipFile(model_file).read("config.json"))
    assert '"helpers' not in json.dumps(config) and "input_axes" not in json.dumps(config)
    assert "Lambda" not in json.dumps(config)


def test_a_changed_file_is_told_from_the_one_described(model_file, tmp_path):
    assert model_files.facts(model_file)["classes"] == ["a", "b"]
    copy = tmp_path / model_file.name
    content = bytearray(model_file.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    (tmp_path / "small.json").write_text("{")
    with pytest.raises(ValueError, match="small.json is no JSON"):
        model_files.facts(copy)
    (tmp_path / "small.json").write_text("{}")
    with pytest.raises(ValueError, match="small.json lacks sha256"):
        model_files.facts(copy)
    (tmp_path / "small.json").unlink()
    with pytest.raises(FileNotFoundError, match="no description small.json beside it"):
        model_files.facts(copy)
    model_files.description(copy).write_text(model_files.description(model_file).read_text())
    with pytest.raises(ValueError, match="damaged or another model"):
        model_files.facts(copy)
    with pytest.raises(FileNotFoundError, match="there is no model"):
        model_files.facts(tmp_path / "none.keras")


def test_files_come_to_model_only_when_runs_are_published(weights_file, tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "FOLDER", tmp_path / "model")
    model_files.publish(weights_file, "x.weights.h5", trained_on="sample")
    assert not (tmp_path / "model").exists()
    monkeypatch.setenv("EVIDENCE", "publish")
    model_files.publish(weights_file, "x.weights.h5", trained_on="sample")
    assert model_files.facts(tmp_path / "model" / "x.weights.h5")["trained_on"] == "sample"


def test_what_is_in_model_is_what_is_described_and_not_too_much():
    files = [path for path in model_files.FOLDER.glob("*") if path.suffix in (".keras", ".h5")]
    assert files
    for path in files:
        assert model_files.facts(path)["bytes"] == path.stat().st_size < 30_000_000
    assert sum(path.stat().st_size for path in files) < 60_000_000


def test_source_weights_from_a_file_of_ones_own(network, weights_file):
    assert source_weights.identity(str(weights_file))["name"] == "own.weights.h5"
    found = vgg16.pretrained(str(weights_file), 3)
    for name in vgg16.CONVOLUTIONS:
        kernel, bias = network.get_layer(name).get_weights()
        np.testing.assert_allclose(found.get_layer(name).get_weights()[0], kernel, atol=1e-3)
        np.testing.assert_allclose(found.get_layer(name).get_weights()[1], bias, atol=1e-3)


def test_source_weights_that_cannot_be_used_are_named_in_a_line(tmp_path, model_file):
    with pytest.raises(FileNotFoundError, match="tiny-imagnet.*did you mean 'tiny-imagenet'"):
        source_weights.identity("tiny-imagnet")
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(other)
    damaged = tmp_path / "damaged.weights.h5"
    damaged.write_bytes(other.read_bytes()[:500])
    for path in (other, damaged, model_file):
        with pytest.raises(ValueError, match="does not hold VGG16's convolutions") as error:
            source_weights.convolutions(str(path))
        assert "\n" not in str(error.value)


def test_scratch_and_imagenet_are_told_apart_without_a_download():
    assert source_weights.identity("scratch") is None
    assert source_weights.identity("imagenet")["name"] == "imagenet"
    one, other = (runs.fingerprint("x", {}, {}, source_weights.identity(w)) for w in ("scratch", "imagenet"))
    assert one != other


AT_ANOTHER_SIZE = """
import keras, numpy as np
from helpers import download, source_weights

file = source_weights.IMAGENET["MobileNetV2"]["file"]
cache = source_weights._cache()
cache.mkdir(parents=True)
known = source_weights.identity("imagenet", "MobileNetV2")
assert known == {"name": "imagenet", "file": file} and source_weights.as_found(known) == {}
for name in (file, file.replace("224", "96")):
    network = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3))
    network.get_layer("Conv1").kernel.assign(np.full((3, 3, 3, 32), int("224" in name)))
    network.save(cache / name)
found = source_weights.convolutions("imagenet", 96, "MobileNetV2")
assert found.input_shape == (None, 96, 96, 3) and (found.get_layer("Conv1").get_weights()[0] == 1).all()
assert source_weights.identity("imagenet", "MobileNetV2") == known
digest = download.file_digest(cache / file, "sha256")
assert source_weights.as_found(known) == {"source_weights_sha256": digest}
assert source_weights.as_found(source_weights.identity("imagenet")) == source_weights.as_found(None) == {}
(cache / file).write_bytes(b"no weights")
try:
    source_weights.convolutions("imagenet", 96, "MobileNetV2")
except ConnectionError as error:
    assert "weights of MobileNetV2 cannot be had" in str(error) and str(cache) in str(error)
else:
    raise AssertionError("damaged weights were taken")
"""


def test_mobilenet_starts_from_the_checkpoint_for_224_at_every_size(tmp_path):
    environment = os.environ | {"KERAS_HOME": str(tmp_path)}  # Keras reads it once, when it is imported
    command = [sys.executable, "-c", AT_ANOTHER_SIZE]
    done = subprocess.run(command, env=environment, cwd=runs.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
