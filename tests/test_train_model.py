"""The batch runner on real notebooks, through real papermill and real kernels."""

import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

import train_model
from helpers import files, runs

RUNNER = (sys.executable, runs.ROOT / "train_model.py")
TYPED = "\n".join(
    (
        "epochs: int = 1  # passes",
        "rate: float = 0.1  # of learning",
        "retrain: bool = True  # again",
        'gpu: str = "auto"  # auto, on or off',
        'data: str = "cifar10"  # which pictures',
        "seed: int = 0  # of everything random",
        "stages: list = [0.5]  # where the rate falls",
    )
)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def recorder(notebook, tmp_path):
    """A notebook that writes down the parameters that it got."""
    names = "epochs, rate, retrain, gpu, data, seed, stages"
    write = f"open({str(tmp_path / 'got.json')!r}, 'a').write(json.dumps([{names}]) + '\\n')"
    return notebook("recorder", "import json", write, parameters=TYPED)


def got(tmp_path):
    return [json.loads(line) for line in (tmp_path / "got.json").read_text().splitlines()]


def run(out, *words):
    return train_model.main([*map(str, words), "--out", str(out)])


@pytest.fixture
def tour(tmp_path, monkeypatch):
    """The tour without running notebooks: tour(their statuses) -> its status, and what it wanted to run."""
    monkeypatch.setattr(runs, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(train_model, "obtainable_data", lambda: "sample")
    published = files.read_json(runs.RESULTS / "baseline-fast" / "seed-0" / "record.json")
    earlier = runs.RUNS / "baseline-naive/1/seed-0/record.json"
    files.write_json(earlier, published | {"experiment": "baseline-naive"})
    os.utime(earlier, (0, 0))

    def take(*statuses):
        asked = []

        def run(jobs):
            asked.append((os.environ.get("EVIDENCE"), jobs))
            if len(asked) == 2:
                time.sleep(0.02)  # the file system's clock is a little behind
                trained = published | {"data": published["data"] | {"name": "sample", "published": False}}
                files.write_json(runs.RUNS / "baseline-fast/1/seed-0/record.json", trained)
            return statuses[len(asked) - 1]

        monkeypatch.setattr(train_model, "run", run)
        return train_model.main(["--out", str(tmp_path / "out")]), asked

    return take


def test_the_tour_reads_what_is_published_then_trains_in_small_and_shows_both(tour, tmp_path, capsys):
    status, ((reading, all_jobs), (training, (small,))) = tour(0, 0)
    assert status == 0 and reading == "read" and training is None
    assert {job.notebook.stem for job in all_jobs} >= {"02-baseline-cnn", "07-comparison"}
    assert small.notebook.stem == "02-baseline-cnn"
    assert small.parameters["data"] == "sample" and small.parameters["retrain"] is True
    said, page = capsys.readouterr().out, (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "these are not CIFAR-10 results" in said and "these are not CIFAR-10 results" in page
    assert said.count("built-in sample, 45,000 images") == 1  # not that of the run before


@pytest.mark.parametrize("statuses", [(1, 0), (0, 1)])
def test_whatever_fails_in_the_tour_is_its_status(tour, statuses):
    assert tour(*statuses)[0] == 1


def test_where_cifar10_cannot_be_had_the_sample_takes_its_place(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path))
    assert train_model.obtainable_data() == "sample" and "CIFAR-10 can't be had" in capsys.readouterr().out


def test_parameters_arrive_in_their_types(recorder, out, tmp_path):
    words = "-p epochs 3 -p rate 1e-4 -p retrain false -p stages 0.5,0.7 --gpu off --data sample"
    assert run(out, recorder, *words.split()) == 0
    assert got(tmp_path) == [[3, 1e-4, False, "off", "sample", 0, [0.5, 0.7]]]
    assert (out / "recorder.ipynb").is_file() and (out / "recorder.log").is_file()


def test_each_seed_has_its_run_and_copy(recorder, out, tmp_path):
    assert run(out, recorder, "--seeds", "0,2") == 0
    assert [values[5] for values in got(tmp_path)] == [0, 2]
    assert (out / "recorder.seed-0.ipynb").is_file() and (out / "recorder.seed-2.log").is_file()


@pytest.mark.parametrize(
    "words, line",
    [
        ("-p epoch 3", "recorder has no parameter 'epoch': did you mean 'epochs'?"),
        ("-p epochs 0", "epochs must be of type int, at least 1; got 0"),
        ("--seeds 1,1", "recorder.seed-1.ipynb: give each notebook and seed once"),
        ("-p epochs many", "epochs must be of type int; got 'many'"),
        ("-p epochs 2.5", "epochs must be of type int; got '2.5'"),
        ("-p rate fast", "rate must be of type float; got 'fast'"),
        ("-p stages half", "stages must be of type list; got 'half'"),
        ("-p retrain maybe", "retrain must be of type bool; got 'maybe'"),
        ("--seeds ,", "seed must be of type int; got ''"),
        ("elsewhere/02-baseline-cnn.ipynb", "no notebook is called 'elsewhere/02-baseline-cnn.ipynb'"),
        ("--seeds 0,one", "seed must be of type int; got 'one'"),
        ("--in-place --seeds 1", "--in-place renews notebooks at their own parameters: give no others"),
        ("no-such-notebook", "no notebook is called 'no-such-notebook'"),
        ("--data sampel", "did you mean 'sample'?"),
        ("--data ~nobody-of-this-name", "unknown data set '~nobody-of-this-name'"),
        ("--data ''", "unknown data set ''"),
        ("''", "no notebook is called ''"),
        ("README.md", "no notebook is called 'README.md'"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line_before_anything_runs(recorder, out, capsys, words, line):
    assert run(out, recorder, *shlex.split(words)) == 2
    stdout, stderr = capsys.readouterr()
    assert line in stderr and stderr.count("\n") == 1 and not stdout
    assert not out.exists()


def test_options_without_a_notebook_are_refused(out, capsys):
    assert run(out, "--seeds", "1") == 2
    assert "which notebooks?" in capsys.readouterr().err


def test_an_executed_copy_never_overwrites_its_notebook(recorder, capsys):
    before = recorder.read_bytes()
    assert run(recorder.parent, recorder) == 2
    assert "choose another --out" in capsys.readouterr().err and recorder.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_one_line(recorder, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(tmp_path / "file" / "out", recorder) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_failing_notebook_is_told_and_kept_and_does_not_stop_the_next(notebook, recorder, out, capsys):
    failing = notebook("failing", "print('before')", "raise ValueError('epochs must be at least 1')", "1")
    assert run(out, failing, recorder) == 1
    stdout = capsys.readouterr().out
    assert "failing: FAILED, ValueError: epochs must be at least 1" in stdout and "recorder: done" in stdout
    assert "before" in (out / "failing.log").read_text() and "ValueError" in (out / "failing.log").read_text()
    assert "before" in (out / "failing.ipynb").read_text()


def test_a_failure_without_words_is_a_failure(recorder, out, capsys, monkeypatch):
    def hang(*_, **__):
        raise TimeoutError

    monkeypatch.setattr(train_model.papermill, "execute_notebook", hang)
    assert run(out, recorder) == 1
    assert "recorder: FAILED, TimeoutError" in capsys.readouterr().out


def test_a_dying_kernel_is_told(notebook, out, capsys):
    dying = notebook("dying", "print('before', flush=True)", "import os; os.kill(os.getpid(), 9)")
    assert run(out, dying) == 1
    assert "dying: FAILED, its kernel died" in capsys.readouterr().out
    assert "before" in (out / "dying.ipynb").read_text() and "kernel died" in (out / "dying.log").read_text()


def test_what_libraries_say_without_python_goes_to_the_log_only(notebook, out, capfd):
    cell = "import os, sys; os.write(2, b'native noise\\n'); print('a warning', file=sys.stderr)"
    assert run(out, notebook("noisy", cell)) == 0
    assert not capfd.readouterr().err
    log, copy = (out / "noisy.log").read_text(), (out / "noisy.ipynb").read_text()
    assert "native noise\n" in log and "a warning" in log
    assert 'native noise\\n"' not in copy and 'a warning\\n"' in copy


def test_progress_is_shown_line_by_line_and_the_rest_logged(notebook, out, capsys):
    cell = """
print("fast, seed 0: has no evidence yet, computes it")
print("some table")
print("reading /data/tiny")
print("cifar-10-binary.tar.gz: 17 of 170 MB")
print("fast seed 0  epoch", end="")
print(" 1/2  train 0.5")
"""
    assert run(out, notebook("talking", cell)) == 0
    stdout = capsys.readouterr().out
    lines = [line.strip() for line in stdout.splitlines()]
    assert lines[1:-1] == [
        "fast, seed 0: has no evidence yet, computes it",
        "reading /data/tiny",
        "cifar-10-binary.tar.gz: 17 of 170 MB",
        "fast seed 0  epoch 1/2  train 0.5",
    ]
    assert "table" not in stdout and "table" in (out / "talking.log").read_text()


def test_ctrl_c_ends_the_kernel_and_exits_with_130(notebook, out):
    waits = "import os, time; print(f'x seed 0  kernel {os.getpid()}', flush=True); time.sleep(600)"
    command = [*RUNNER, notebook("waiting", waits), "--out", out]
    # As from a terminal: whatever started the tests in the background may have had SIGINT ignored.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, preexec_fn=heed, **pipes)
    kernel = next(int(found[1]) for line in process.stdout if (found := re.search(r"kernel (\d+)", line)))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and "The same command again" in stderr
    assert "Traceback" not in stderr and not psutil.pid_exists(kernel)
    assert "kernel" in (out / "waiting.ipynb").read_text() and (out / "waiting.log").is_file()


def test_runs_from_any_folder(recorder, out, tmp_path):
    command = [*RUNNER, recorder.name, "--out", "out", "--data", "sample"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0 and "recorder: done" in finished.stdout and not finished.stderr
    assert (out / "recorder.ipynb").is_file() and got(tmp_path)[0][4] == "sample"


def test_a_relative_folder_is_the_caller_s(notebook, out, tmp_path):
    path = notebook("teller", "import os", "print('x seed 0', os.environ['RUNS_DIR'], flush=True)")
    environment = os.environ | {"RUNS_DIR": "mine"}
    command = [*RUNNER, path, "--out", "out"]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert f"x seed 0 {tmp_path / 'mine'}\n" in finished.stdout


def test_an_empty_variable_is_none(notebook, out, monkeypatch):
    monkeypatch.setenv("CIFAR10_DIR", "")
    assert run(out, notebook("empty", "1"), "-p", "epochs", "2") == 0
    assert os.environ["CIFAR10_DIR"] == ""


def test_paths_are_the_caller_s_and_words_stay_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "vgg16", "sample", "holiday"):
        (tmp_path / folder).mkdir()
    (tmp_path / "own.weights.h5").touch()
    wishes = {
        "weights": "own.weights.h5",
        "strangers": "photos",
        "pictures": "holiday",
        "data": "sample",
        "backbone": "vgg16",
        "n": 3,
    }
    found = {name: train_model.as_seen_here(name, value) for name, value in wishes.items()}
    paths = {"weights": "own.weights.h5", "strangers": "photos", "pictures": "holiday"}
    assert found == wishes | {name: str(tmp_path / path) for name, path in paths.items()}


def test_renewing_in_place_is_repeatable_and_leaves_no_trace_of_papermill(notebook, out):
    path = notebook("renewed", "for i in range(3): print(i, flush=True)", "epochs + 1")
    assert run(out, path, "--in-place") == 0
    first = path.read_bytes()
    assert run(out, path, "--in-place") == 0
    assert path.read_bytes() == first and b"papermill" not in first
    cells = nbformat.read(path, as_version=4).cells
    assert [cell.execution_count for cell in cells] == [1, 2, 3]
    assert cells[1].outputs[0].text == "0\n1\n2\n" and cells[0].metadata.tags == ["parameters"]


def test_a_failure_renews_nothing_in_place(notebook, out):
    path = notebook("failing", "1 / 0")
    before = path.read_bytes()
    assert run(out, path, "--in-place") == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["2", "02", "02-baseline-cnn", "notebooks/02-baseline-cnn.ipynb"])
def test_a_notebook_has_several_names(name):
    assert [path.stem for path in train_model.select([name])] == ["02-baseline-cnn"]


def test_all_means_every_notebook_once():
    chosen = train_model.select(["all", "02"])
    assert chosen == sorted(train_model.NOTEBOOKS.glob("*.ipynb"))


def test_smoke_overrides_only_what_a_notebook_has(recorder):
    assert set(train_model.smoke_overrides(recorder)) == {"epochs", "retrain", "data"}


@pytest.mark.parametrize(
    "words",
    [
        ("{folder}/a repository/notebooks/03-any.ipynb", "out.ipynb"),
        ("a repository/notebooks/03-any.ipynb", "out.ipynb"),
        ("copy.ipynb", "out.ipynb", "--cwd", "a repository"),
    ],
    ids=["absolute path", "relative path", "copy with --cwd"],
)
def test_plain_papermill_finds_the_repository_from_any_folder(tmp_path, notebook, first_cell, words):
    root = tmp_path / "a repository"
    path = notebook("a repository/notebooks/03-any", first_cell, "import helpers; print(helpers.__file__)")
    shutil.copyfile(path, tmp_path / "copy.ipynb")
    (root / "helpers").mkdir()
    for name in ("__init__.py", "runs.py"):
        (root / "helpers" / name).touch()
    finished = papermill(tmp_path, *words)
    assert finished.returncode == 0, finished.stderr
    assert str(root / "helpers" / "__init__.py") in (tmp_path / "out.ipynb").read_text()


def test_a_notebook_that_finds_no_repository_says_what_to_do(tmp_path, notebook, first_cell):
    notebook("alone", first_cell)
    finished = papermill(tmp_path, "alone.ipynb", "out.ipynb")
    assert finished.returncode == 1 and "give papermill --cwd <its folder>" in finished.stderr


def papermill(folder, *words):
    words = [word.format(folder=folder) for word in words]
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)
