"""The application notebook, headless, on whatever people give it; and the published model's answers."""

import os

import pandas as pd
import pytest
from conftest import execute
from PIL import Image

import classify
from helpers import runs
from helpers.classifier import NONE, Classifier, gather

NOTEBOOK = runs.ROOT / "example-to-use/Application-Image-Classification-Transfer-Learning-model.ipynb"
PICTURES = runs.ROOT / "example-to-use/pictures"
ANSWERS = {
    "chelsea.jpg": "cat", "china.jpg": NONE, "coffee.jpg": NONE, "flower.jpg": NONE, "horse.png": "horse",
    "rocket.jpg": NONE,
}  # fmt: skip


def apply(folder, modules="", **parameters):
    words = [word for pair in parameters.items() for word in ("-p", *map(str, pair))]
    environment = os.environ | {"RUNS_DIR": str(folder / "runs"), "PYTHONPATH": str(modules)}
    return execute(NOTEBOOK, folder, environment, *words, figure="image/jpeg")


def test_the_published_model_knows_what_it_should_and_what_it_does_not():
    found = {answer.picture.name: answer.best for answer in Classifier().classify(gather(PICTURES))}
    assert found == ANSWERS


@pytest.mark.slow
def test_a_folder_with_a_broken_picture_becomes_a_table(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.open(PICTURES / "chelsea.jpg").save(photos / "cat.png")
    (photos / "broken.jpg").write_text("no picture")
    status, error, said, figures = apply(tmp_path, pictures=photos, top=2)
    assert status == 0, error
    assert figures == 1 and "2 pictures" in said
    table = pd.read_csv(tmp_path / "runs" / "answers.csv", index_col="picture")
    assert table.loc[str(photos / "cat.png"), "answer"] == "cat"
    assert "broken.jpg" in table.loc[str(photos / "broken.jpg"), "problem"]
    assert "class_2" in table and "class_3" not in table


@pytest.mark.slow
def test_a_picture_that_is_not_there_is_one_clear_line(tmp_path):
    status, (error,), _, _ = apply(tmp_path, pictures="nowhere.jpg")
    missing = tmp_path / "nowhere.jpg"
    assert status == 1 and error == f"FileNotFoundError: {missing}: there is no such file or folder"
    assert not (tmp_path / "runs" / "answers.csv").exists()


@pytest.mark.slow
def test_pictures_chosen_in_colab_are_answered(tmp_path):
    colab = tmp_path / "modules" / "google" / "colab"
    colab.mkdir(parents=True)
    content = (PICTURES / "horse.png").read_bytes()
    (colab / "files.py").write_text(f"def upload():\n    return {{'mine.png': {content!r}}}\n")
    status, error, said, _ = apply(tmp_path, modules=colab.parents[1], upload="true")
    assert status == 0, error
    table = pd.read_csv(tmp_path / "runs" / "answers.csv", index_col="picture")
    assert table["answer"].tolist() == ["horse"] and "1 pictures" in said
    (colab / "files.py").write_text("def upload():\n    return {}\n")  # the dialog was closed
    status, (error,), _, _ = apply(tmp_path, modules=colab.parents[1], upload="true")
    assert status == 1 and error == "AssertionError: no picture was chosen: run this cell again"


def test_the_command_gives_the_same_answers(capsys):
    assert classify.main([str(PICTURES), "--top", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("   ")[1].strip() for line in lines] == list(ANSWERS.values())
