"""The classifier and classify.py, on a small real model that knows red, green and blue."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import classify
from helpers import calibration, classifier, model_files, models, plots_answers, runs, vgg16
from helpers.classifier import NONE, Classifier, gather

COLOURS = ("red", "green", "blue")
BLACK_AND_BELOW = 2.0  # energy: three logits of zero have 1.1, one of ten has 10
COMMAND = (sys.executable, runs.ROOT / "classify.py")


def save(path, model, **facts):
    model_files.save(model, path)
    model_files.describe(path, **facts)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Its logits are ten times the mean of each channel."""
    network = keras.Sequential(
        [
            keras.Input((None, None, 3), name="pixels"),
            layers.Resizing(32, 32),
            layers.Rescaling(1 / 255),
            layers.Conv2D(3, 1, name="colours"),
            layers.AveragePooling2D(4),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, name="logits"),
        ]
    )
    network.get_layer("colours").set_weights([np.eye(3)[None, None], np.zeros(3)])
    network.get_layer("logits").set_weights([10 * np.eye(3), np.zeros(3)])
    rule = {"score": "energy", "threshold": BLACK_AND_BELOW}
    facts = {"classes": list(COLOURS), "input": {"size": 32}, "none_of_these": rule}
    facts |= {"temperature": 2.0, "floor": 0.002}
    return save(tmp_path_factory.mktemp("model") / "colours.keras", network, **facts)


@pytest.fixture(scope="session")
def colours(model):
    return Classifier(model)


@pytest.fixture
def photos(tmp_path):
    """A folder of pictures of one colour each."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("red.png", "green.jpg", "more/blue.bmp", "more/black.png"):
        colour = name.split("/")[-1].split(".")[0]
        Image.new("RGB", (60, 40), "lime" if colour == "green" else colour).save(folder / name)
    return folder


def ask(colours, place, **options):
    return list(colours.classify(gather(place), **options))


def test_answers_come_in_order_with_calibrated_probabilities(colours, photos):
    found = ask(colours, photos, top=2)
    assert [answer.picture.name for answer in found] == ["green.jpg", "black.png", "blue.bmp", "red.png"]
    assert [answer.best for answer in found] == ["green", NONE, "blue", "red"]
    (first, probability), (_, second) = found[3].top
    # Logits of 10, 0 and 0 at a temperature of 2, less the floor
    left = np.exp([5, 0, 0]) / (np.exp(5) + 2) - 0.002
    assert first == "red" and [probability, second] == pytest.approx((left / left.sum())[:2])
    assert found[1].unfamiliar and [p for _, p in found[1].top] == pytest.approx([1 / 3, 1 / 3])


def test_a_file_and_bytes_give_the_same_answer(colours, photos):
    (answer,) = ask(colours, photos / "red.png")
    (from_bytes,) = colours.classify([(photos / "red.png").read_bytes()])
    assert answer.top == from_bytes.top


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(colours, photos):
    (photos / "more" / "broken.jpg").write_text("no picture")
    found = ask(colours, photos)
    broken = found[3]
    assert [answer.best for answer in found] == ["green", NONE, "blue", None, "red"]
    assert "broken.jpg" in broken.problem and "\n" not in broken.problem
    assert broken.row().items() >= {"answer": None, "problem": broken.problem}.items()
    assert found[0].row().items() >= {"answer": "green", "class_1": "green", "problem": ""}.items()


def test_no_more_is_read_ahead_than_the_next_chunk(colours, photos, monkeypatch):
    reads, read = [], classifier.photos.read
    monkeypatch.setattr(classifier.photos, "read", lambda *words: reads.append(1) or read(*words))
    many = colours.classify([photos / "red.png"] * 500)
    next(many)
    assert len(reads) <= 2 * classifier.CHUNK_MOST
    assert [answer.best for answer in many] == ["red"] * 499 and len(reads) == 500


def test_the_heat_lies_where_the_class_is(colours, tmp_path):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32, 0], pixels[:, 32:, 2] = 255, 255
    Image.fromarray(pixels).save(tmp_path / "halves.png")
    red, blue = (colours.heat_map(tmp_path / "halves.png", name) for name in ("red", "blue"))
    assert red.shape == (32, 32) and red.max() == 1 and red.min() >= 0
    assert red[:, :8].min() > 0.8 and red[:, 24:].max() < 0.2
    np.testing.assert_allclose(blue, red[:, ::-1], atol=1e-4)
    assert colours.heat_map(tmp_path / "halves.png", "green").max() == 0


def test_the_score_by_distance_uses_the_means_beside_the_model(model, photos, tmp_path):
    network = keras.models.load_model(model)
    averages = network.layers[-2].name
    means = calibration.packed(np.eye(3))
    rule = {"score": "distance", "threshold": 0.9, "layers": [averages], "reference": means}
    facts = {"classes": list(COLOURS), "input": {"size": 32}, "none_of_these": rule}
    path = save(tmp_path / "by-distance.keras", network, **facts)
    Image.new("RGB", (40, 40), "yellow").save(photos / "yellow.png")
    found = {answer.picture.stem: answer.best for answer in ask(Classifier(path), photos)}
    assert found["yellow"] == NONE and found["red"] == "red" and found["blue"] == "blue"


def test_vgg16_of_any_size_explains_itself_on_a_grid_of_eight_by_eight(tmp_path):
    plain = vgg16.plain(10)
    network = keras.Sequential([keras.Input((None, None, 3)), layers.Resizing(32, 32), *plain.layers])
    line = calibration.packed(np.ones(1025))
    rule = {"score": "learned", "threshold": 0.0, "layers": ["block4_pool", "features"], "reference": line}
    facts = {"classes": list("abcdefghij"), "input": {"size": 32}, "none_of_these": rule}
    found = Classifier(save(tmp_path / "vgg16.keras", network, **facts))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    logits, features = found.network.outputs(pixels)
    sides = [plain(side.astype("float32")) for side in (pixels, pixels[:, :, ::-1])]
    np.testing.assert_allclose(logits, sum(sides) / 2, rtol=0.02, atol=0.02)  # half precision
    assert features.shape == (2, 1024)
    assert found.network.heat(pixels, 3).shape == (2, 8, 8)
    answers = list(found.classify([(runs.ROOT / "example-to-use/pictures/chelsea.jpg")], top=99))
    assert len(answers[0].top) == 10 and not answers[0].unfamiliar


def test_pictures_are_shown_with_their_heat_as_a_small_jpeg(colours, photos):
    (photos / "broken.png").write_text("no picture")
    found = ask(colours, photos)
    heat = [None if answer.problem else colours.heat_map(answer.picture, "red") for answer in found]
    shown = plots_answers.answers(found, heat)._repr_jpeg_()
    assert shown[:3] == b"\xff\xd8\xff" and len(shown) < 100_000


@pytest.fixture
def server(photos):
    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            if "cut-off" not in self.path:
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", 1000)
            self.end_headers()
            self.wfile.write(b"half")
            return self.wfile.flush()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=photos)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_picture_on_the_web(colours, server, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "DOWNLOADS", tmp_path / "downloads")
    (answer,) = ask(colours, f"{server}/red.png?width=60")
    assert answer.best == "red" and answer.picture.name.endswith("-red.png")
    with pytest.raises(ConnectionError, match="404"):
        gather(f"{server}/missing.png")
    (photos / "größer.png").write_bytes((photos / "red.png").read_bytes())
    for address in ("größer.png", "gr%C3%B6%C3%9Fer.png"):
        assert [answer.best for answer in ask(colours, f"{server}/{address}")] == ["red"]
    with pytest.raises(ConnectionError, match="404"):
        gather(f"{server}/{'long' * 80}.png")
    with pytest.raises(ConnectionError):
        gather("http://a..b/red.png")
    with pytest.raises(ConnectionError, match=f"{server}/cut-off.png"):
        gather(f"{server}/cut-off.png")
    monkeypatch.setattr(classifier, "LARGEST_DOWNLOAD", 10)
    with pytest.raises(ValueError, match="more than 0 MB"):
        gather(f"{server}/red.png")
    assert len(list((tmp_path / "downloads").iterdir())) == 3


# --- classify.py


def run(*words, **environment):
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=300)


def test_the_command_answers_what_it_can(model, photos):
    (photos / "broken.jpg").write_text("no picture")
    with contextlib.suppress(OSError):  # some systems take no such name
        shutil.copy(photos / "red.png", os.fsencode(photos) + b"/more/\xff.png")
    done = run(photos, photos / "red.png", "--model", model, "--top", "1")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split()[1:] for line in lines[:1]] == [["green", "green", "99%"]]
    assert [line.split("   ")[1].strip() for line in lines if "black" in line] == [NONE]
    assert sum("red.png" in line for line in lines) == 2
    (problem,) = done.stderr.splitlines()
    assert "broken.jpg" in problem


def test_an_address_that_gives_nothing_does_not_stop_the_rest(
    model, server, photos, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(classifier, "DOWNLOADS", tmp_path / "downloads")
    gone = f"{server}/missing.png"
    assert classify.main([gone, f"{server}/red.png", "--model", str(model)]) == 1
    stdout, stderr = capsys.readouterr()
    assert f"{server}/red.png" in stdout and stderr.count("\n") == 1 and gone in stderr
    assert classify.main([gone, "--model", str(model)]) == 1
    page = f"{server}/page.html"
    (photos / "page.html").write_text("no picture")
    assert classify.main([page, "--model", str(model)]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"{page}: is no JPEG")


def test_a_telephone_s_own_format_is_told(colours, photos):
    (photos / "more" / "IMG_0001.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (problem,) = (answer.problem for answer in ask(colours, photos) if answer.problem)
    assert "IMG_0001.HEIC: is no JPEG" in problem


def test_no_classes_at_all_are_refused(colours, photos):
    with pytest.raises(ValueError, match="top must be a whole number, 1 or more, not 0"):
        ask(colours, photos, top=0)


def test_no_line_is_lost_while_a_library_that_writes_to_stderr_is_kept_quiet(model, photos):
    for i in range(60):
        (photos / f"broken-{i}.jpg").write_text("no picture")
        Image.new("RGB", (300, 300)).save(photos / f"{i}.tif", compression="tiff_lzw")
    done = run(photos, "--model", model)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 60


def test_who_has_read_enough_closes_the_pipe_without_a_traceback(model, photos):
    command = [*COMMAND, str(photos), "--model", str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 1


def test_json_is_an_object_a_line(model, photos, capsys):
    assert classify.main([str(photos), "--json", "--model", str(model)]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["answer"] for answer in found] == ["green", None, "blue", "red"]
    assert found[3]["picture"] == str(photos / "red.png")
    assert [pair["class"] for pair in found[3]["top"]] == ["red", "green", "blue"]
    assert sum(pair["probability"] for pair in found[3]["top"]) == pytest.approx(1, abs=1e-3)


def test_bad_arguments_are_refused_before_tensorflow_is_imported(model, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    good = ["--model", str(model)]
    cases = {
        "no such file or folder": ["nowhere.jpg", *good],
        "holds no pictures": [str(tmp_path / "empty"), *good],
        "there is no model": [str(photos), "--model", str(tmp_path / "none.keras")],
        "must be a whole number, 1 or more, not '0'": [str(photos), "--top", "0", *good],
        "required: PATH": good,
    }
    script = f"""
import sys, classify
sys.argv = ["classify.py"]
for words in {list(cases.values())!r}:
    try:
        status = classify.main(words)
    except SystemExit as error:
        status = error.code
    assert status == 2, words
assert not {{"keras", "tensorflow"}} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=runs.ROOT)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("classify.py:")]
    for message, line in zip(cases, told, strict=True):
        assert message in line


def test_a_damaged_model_is_refused(model, photos, tmp_path, capsys):
    damaged = tmp_path / model.name
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    model_files.description(damaged).write_text(model_files.description(model).read_text())
    assert classify.main([str(photos), "--model", str(damaged)]) == 2
    assert "is damaged or another model than colours.json describes" in capsys.readouterr().err


def test_a_model_that_would_run_code_is_refused(photos, tmp_path):
    """Its description and checksum are right: whoever wrote the one could write the others."""
    mark = str(tmp_path / "mark")
    network = keras.Sequential([keras.Input((None, None, 3)), layers.Resizing(8, 8), layers.Flatten()])
    network.add(layers.Lambda(lambda x: os.makedirs(mark, exist_ok=True) or x[:, :3], output_shape=(3,)))
    path = tmp_path / "hostile.keras"
    network.save(path)
    model_files.describe(path, classes=list(COLOURS), input={"size": 8})
    done = run(photos, "--model", path)
    assert done.returncode == 2 and not os.path.exists(mark)
    (line,) = done.stderr.splitlines()
    assert "hostile.keras cannot be loaded" in line and "Lambda" in line and "safe_mode" not in line


@pytest.mark.parametrize(
    "facts, told", [({}, "lacks classes and input"), ({"input": {"size": 32}}, "lacks classes")]
)
def test_a_description_that_says_too_little_is_refused(model, photos, tmp_path, capsys, facts, told):
    path = tmp_path / "poor.keras"
    path.write_bytes(model.read_bytes())
    model_files.describe(path, **facts)
    assert classify.main([str(photos), "--model", str(path)]) == 2
    assert told in capsys.readouterr().err


def test_classes_must_be_as_many_as_the_model_answers(model, tmp_path):
    path = tmp_path / "other.keras"
    path.write_bytes(model.read_bytes())
    model_files.describe(path, classes=["cat", "dog"], input={"size": 32})
    with pytest.raises(ValueError, match="answers 3 classes, its description names 2"):
        Classifier(path)


def test_a_model_of_ones_own_with_layers_of_this_repository_is_asked_from_a_fresh_process(photos, tmp_path):
    network = models.fast_cnn(3, widths=(8, 16, 16))
    path = save(tmp_path / "fast.keras", network, classes=list(COLOURS), input={"size": 32})
    done = run(photos, "--model", path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4


@pytest.mark.parametrize("other", ["jax", "torch"])
def test_another_backend_gives_the_same_heat(other, colours, model, photos):
    pytest.importorskip(other)
    script = f"""
from helpers.classifier import Classifier
print(Classifier({str(model)!r}).heat_map({str(photos / "red.png")!r}, "red").mean())
"""
    environment = os.environ | {"KERAS_BACKEND": other}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=runs.ROOT, env=environment)
    assert float(done.stdout) == pytest.approx(colours.heat_map(photos / "red.png", "red").mean(), abs=1e-4)
