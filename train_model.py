"""Run the notebooks as a batch, through papermill.

    python train_model.py                              a tour: the published results, and a small training
    python train_model.py 02                           one notebook at its own parameters
    python train_model.py 02 03 --seeds 0,1,2 --gpu on
    python train_model.py 02 -p train_images 5000 -p retrain true --data photos/
    python train_model.py all --smoke                  every notebook made small, on the built-in sample

Each notebook leaves an executed copy and a log. The exit status is 0 if all went well, 1 if a notebook
failed, 2 if the command was refused before anything ran, 130 after Ctrl-C; then the same command goes on
after the last finished epoch. (With `retrain`, runs that had ended are trained again.)
"""

import argparse
import json
import logging
import os
import re
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import nbformat
import papermill
import yaml
from nbclient.exceptions import DeadKernelError

from helpers import checks, cifar10, data, files, report, runs, tour_page
from helpers.streams import native_stderr_in

NOTEBOOKS = runs.ROOT / "notebooks"
SWITCH = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
CONVERTERS = {
    "bool": lambda text: SWITCH[text.lower()],
    "int": int,
    "float": float,
    "str": str,
    "list": lambda text: json.loads(f"[{text.strip('[]')}]"),
}
# Parameters; others may be told words like vgg16.
TAKE_FOLDERS = {"data", "pictures", "strangers", "source_data"}
FOLDERS = {"KERAS_HOME", "RUNS_DIR", "RESULTS_DIR", "CIFAR10_DIR", "TINY_IMAGENET_DIR"}
# What the helpers print: "baseline-fast, seed 0: reads ..." and "baseline-fast, seed 0  epoch 3/10 ..."
# And of long work before it: "cifar-10-binary.tar.gz: 17 of 170 MB", "reading ...".
PROGRESS = re.compile(r"\S+ seed \d+|\S+: \d+ of \d+ MB|reading ")
# Only what Python prints becomes part of a notebook, not TensorFlow's start-up lines; and no times.
CLIENT = {
    "extra_arguments": ["--IPKernelApp.capture_fd_output=False"],
    "record_timing": False,
    "coalesce_streams": True,
}
# What `python train_model.py` trains: enough to see it learn, in minutes on two cores.
TRAINED_IN_SMALL = "02"
TRAINING_IN_SMALL = {"train_images": 5000, "fast_batch_size": 500}


class Job(NamedTuple):
    notebook: Path
    copy: Path
    parameters: dict


def main(words=None):
    arguments = parse(words)
    for name in filter(os.environ.get, FOLDERS):  # kernels run elsewhere, and mean the same
        os.environ[name] = os.path.abspath(os.path.expanduser(os.environ[name]))
    try:
        jobs = plan(arguments)
        arguments.out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"train_model.py: {error}", file=sys.stderr)
        return 2
    try:
        return run(jobs, arguments.in_place) if arguments.notebooks else tour(jobs, arguments.out)
    except KeyboardInterrupt:
        logging.getLogger("asyncio").disabled = True  # would tell, in many lines, that the kernel has ended
        print("\nStopped. The same command again goes on after the last finished epoch.", file=sys.stderr)
        return 130


def parse(words):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", help="numbers (02), names, files, or all")
    parser.add_argument(
        "--gpu", choices=("auto", "on", "off"), help="where to train; on fails where there is none"
    )
    parser.add_argument("--seeds", default="", help="run each notebook once a seed: 0,1,2")
    parser.add_argument("--data", help="cifar10, sample, or a folder of labelled images")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters"
    )
    parser.add_argument("--smoke", action="store_true", help="with the overrides of notebooks/smoke.yaml")
    parser.add_argument("--in-place", action="store_true", help="renew the notebooks' own outputs")
    out = runs.RUNS / "notebooks" / datetime.now().strftime("%Y%m%d-%H%M%S")
    parser.add_argument(
        "--out", type=Path, default=out, help="folder of executed copies and logs (%(default)s)"
    )
    return parser.parse_args(words)


def plan(arguments):
    """All that will run, checked: nothing starts unless every name, value and type is right."""
    wishes = dict(arguments.parameters)
    wishes |= {name: value for name in ("gpu", "data") if (value := getattr(arguments, name)) is not None}
    if not arguments.notebooks and (wishes or arguments.seeds or arguments.smoke or arguments.in_place):
        raise ValueError("which notebooks? give their numbers or names, or all")
    if arguments.in_place and (wishes or arguments.seeds or arguments.smoke):
        raise ValueError("--in-place renews notebooks at their own parameters: give no others")
    jobs = []
    for notebook in select(arguments.notebooks or ["all"]):
        parameters = smoke_overrides(notebook) if arguments.smoke else {}
        parameters |= converted(notebook, wishes)
        if not arguments.seeds:
            jobs.append(Job(notebook, arguments.out / notebook.name, parameters))
        for seed in arguments.seeds.split(",") if arguments.seeds else ():
            copy = arguments.out / f"{notebook.stem}.seed-{seed}.ipynb"
            jobs.append(Job(notebook, copy, parameters | converted(notebook, {"seed": seed})))
    if clash := next((job.copy for job in jobs if job.copy.resolve() == job.notebook.resolve()), None):
        raise ValueError(f"{clash} would be overwritten by its executed copy: choose another --out")
    copies = [job.copy for job in jobs]
    if twice := next((copy for copy in copies if copies.count(copy) > 1), None):
        raise ValueError(f"two of these would write {twice}: give each notebook and seed once")
    return jobs


def select(names):
    """The notebooks of these numbers, names or files, each once."""
    known = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    chosen = []
    for name in names:
        number = name and name.zfill(2)  # an empty word is none
        stems = [stem for stem in known if name == "all" or stem.split("-")[0] == number]
        if name.removeprefix("notebooks/").removesuffix(".ipynb") in known and not Path(name).is_file():
            stems = [Path(name).stem]
        if not stems and not (name.endswith(".ipynb") and Path(name).is_file()):
            raise ValueError(f"no notebook is called {name!r}: {checks.nearest(name, list(known))}")
        chosen += [known[stem] for stem in stems] or [Path(name).resolve()]
    return list(dict.fromkeys(chosen))


def converted(notebook, wishes):
    """The wished values in the types that the notebook's parameters cell declares."""
    declared = declarations(notebook)
    for name in wishes:
        if name not in declared:
            suggestion = checks.nearest(name, list(declared))
            raise ValueError(f"{notebook.stem} has no parameter {name!r}: {suggestion}")
    values = {name: convert(name, text, declared[name]) for name, text in wishes.items()}
    checks.parameters(values)
    if "data" in values:
        data.source(values["data"])  # refuses what isn't there
    return {name: as_seen_here(name, value) for name, value in values.items()}


def as_seen_here(name, value):
    """A path as the caller sees it, not the notebook; anything else as it is."""
    if not isinstance(value, str) or value in data.NAMES:
        return value
    path = Path(os.path.expanduser(value))
    return str(path.resolve()) if path.is_file() or (name in TAKE_FOLDERS and path.is_dir()) else value


def declarations(notebook):
    """Name and type of each parameter."""
    found = papermill.inspect_notebook(notebook)
    return {name: parameter["inferred_type_name"] for name, parameter in found.items()}


def convert(name, text, kind):
    try:
        return CONVERTERS[kind](text)
    except (ValueError, KeyError):
        raise ValueError(f"{name} must be of type {kind}; got {text!r}") from None


def smoke_overrides(notebook):
    overrides = yaml.safe_load((NOTEBOOKS / "smoke.yaml").read_text())
    return {name: value for name, value in overrides.items() if name in declarations(notebook)}


def run(jobs, in_place=False):
    """Execute one after the other; a failure doesn't stop the next. Returns the exit status."""
    failures = 0
    for job in jobs:
        problem = execute(job)
        failures += bool(problem)
        if in_place and not problem:
            renew(job)
    return 1 if failures else 0


def execute(job):
    """Run one notebook; whatever happens, it leaves its copy and its log. Returns what went wrong, or ""."""
    started = time.monotonic()
    print(f"{job.copy.stem}: starts", flush=True)
    # What a kernel says without Python goes to the log, and not between the lines of progress.
    with open(job.copy.with_suffix(".log"), "w", encoding="utf-8") as log, native_stderr_in(log):
        problem = attempt(job, log)
    outcome = f"FAILED, {problem}" if problem else "done"
    print(f"{job.copy.stem}: {outcome} ({time.monotonic() - started:.0f} s, {job.copy})", flush=True)
    return problem


def attempt(job, log):
    outputs = {"stdout_file": Progress(log), "stderr_file": log, "progress_bar": False}
    try:
        papermill.execute_notebook(*job, cwd=runs.ROOT, **outputs, **CLIENT)
    except papermill.PapermillExecutionError as error:
        log.write(str(error))
        return f"{error.ename}: {error.evalue}".splitlines()[0]
    except DeadKernelError:
        log.write("The kernel died.\n")
        return "its kernel died; where memory is short, train on fewer images (-p train_images 5000)"
    except Exception as error:  # a kernel that doesn't start, for one: the next notebook runs all the same
        log.write(str(error))
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


class Progress:
    """A notebook's standard output: all of it goes to the log, the lines of progress to the screen too."""

    def __init__(self, log):
        self.log = log
        self.line = ""

    def write(self, text):
        self.log.write(text)
        *lines, self.line = (self.line + text).split("\n")
        for line in filter(PROGRESS.match, lines):
            print(f"  {line}", flush=True)

    def flush(self):
        self.log.flush()


def renew(job):
    """Put the executed copy in its notebook's place, less what papermill adds and what machines differ in."""
    notebook = nbformat.read(job.copy, as_version=4)
    notebook.metadata.pop("papermill")
    notebook.metadata.language_info.pop("version")
    for cell in notebook.cells:
        cell.metadata.pop("papermill")
        if not cell.metadata.tags:
            del cell.metadata["tags"]
    files.write_whole(job.notebook, lambda part: nbformat.write(notebook, part))


def tour(jobs, out):
    """Execute the published notebooks, train one in small, and show both results side by side."""
    os.environ["EVIDENCE"] = "read"  # what has no evidence would train for hours here
    status = run(jobs)
    del os.environ["EVIDENCE"]
    started = time.time()
    notebook = select([TRAINED_IN_SMALL])[0]
    parameters = TRAINING_IN_SMALL | {"data": obtainable_data(), "retrain": True}
    small = Job(notebook, out / f"{notebook.stem}.in-small.ipynb", parameters)
    status = run([small]) or status
    new = [path for path in runs.RUNS.glob("*/*/seed-*/record.json") if path.stat().st_mtime >= started]
    records = map(files.read_json, new)
    trained = [record for record in records if record["experiment"] in report.SYSTEMS]
    published = report.read_records()
    page = out / "report.html"
    tour_page.write(page, published, trained, [job.copy for job in (*jobs, small)])
    both = tour_page.side_by_side(published, trained)
    print(f"\n{both.to_string(index=False)}\n{tour_page.caution(trained)}")
    print(f"Open the report: {page}")
    return status


def obtainable_data():
    """CIFAR-10 if it is here or can be downloaded, else the built-in sample."""
    try:
        cifar10.obtain()
        return "cifar10"
    except (OSError, ValueError) as error:
        print(f"CIFAR-10 can't be had, so that the built-in sample takes its place: {error}", flush=True)
        return "sample"


if __name__ == "__main__":
    sys.exit(main())
