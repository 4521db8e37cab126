"""Runs and the evidence that they leave: parameters -> fingerprint -> record.

A run writes to runs/<experiment>/<fingerprint>/seed-<n>/ (ignored by git); published evidence stands in
results/<experiment>/seed-<n>/ (tracked). Reading looks in results/ first, then in runs/.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from filelock import FileLock, Timeout

from helpers import checks, files

SCHEMA = 1
ROOT = Path(__file__).resolve().parent.parent
RUNS = Path(os.environ.get("RUNS_DIR") or ROOT / "runs").expanduser()
RESULTS = Path(os.environ.get("RESULTS_DIR") or ROOT / "results").expanduser()
# Training, validation and test images of the data sets whose results are published.
PUBLISHED_SIZES = {"cifar10": (45_000, 5_000, 10_000), "tiny-imagenet": (90_000, 4_500, 4_500)}
CPUINFO = Path("/proc/cpuinfo")  # on Linux: what the processor is and has
REPORTED_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "pandas", "scikit-learn")


def start(experiment, *, source, seed=0, parameters=None, weights=None, retrain=False, model_needed=False):
    """Say what this run will do (read evidence, resume, or train) and return it as a Run.

    `parameters` is everything that decides the result beside the data, the seed and the source weights
    (`weights`: None or {"name", "sha256"}). With `model_needed`, evidence won't do without the trained model.
    The environment variable EVIDENCE may be "read": nothing is computed, missing evidence is an error; or
    "publish": the same, and runs/ is copied to results/.
    """
    parameters = dict(parameters or {})
    checks.parameters(parameters | {"seed": seed})
    run = Run(experiment, source.identity, seed, parameters, weights, retrain)
    run.record = None if retrain else run.find(run.seed)
    if run.record and model_needed and not run.model.is_file():
        seconds = run.record["measured"]["train_seconds"]
        print(f"{run}: its model is needed and not on this machine; training it took {seconds:,.0f} s before")
        run.record = None
    if run.record is None:
        if asked_of_evidence():
            raise FileNotFoundError(f"{run} has no finished evidence: train it first (make reproduce)")
        run.make_room()
    print(f"{run}: {run.outlook()}", flush=True)
    return run


def asked_of_evidence():
    """The environment variable EVIDENCE: "read" or "publish"; empty where what is missing is computed."""
    asked = os.environ.get("EVIDENCE", "")
    if asked not in ("", "read", "publish"):
        raise ValueError(f"EVIDENCE must be read or publish, or not be set; got {asked!r}")
    return asked


def published(experiment):
    """The record that stands in results/, of seed 0, or None."""
    path = RESULTS / experiment / "seed-0" / "record.json"
    return files.read_json(path) if path.is_file() else None


class Run:
    """One experiment at one seed: where its files lie, and its record once there is one."""

    def __init__(self, experiment, data, seed, parameters, weights, retrain=False):
        self.experiment, self.data, self.seed = experiment, data, seed
        self.parameters, self.weights, self.retrain = parameters, weights, retrain
        self.fingerprint = fingerprint(experiment, data, parameters, weights)
        self.record = None

    def __str__(self):
        return f"{self.experiment}, seed {self.seed}"

    @property
    def folder(self):
        return self._folder_of(self.seed)

    @property
    def own(self):
        """The record that this run writes when it ends."""
        return self.folder / "record.json"

    @property
    def model(self):
        """The trained model, on the machine that trained it."""
        return self.folder / "model.keras"

    @property
    def state(self):
        """The state after the last finished epoch, while the run is under way."""
        return self.folder / "state.json"

    @property
    def previous(self):
        """Where finished evidence waits while the run is repeated."""
        return self.folder.with_name(f"previous-{self.folder.name}")

    def make_room(self):
        """Set finished evidence aside and make the run's folder: what can't be written is noticed at once."""
        try:
            if self.own.is_file():
                shutil.rmtree(self.previous, ignore_errors=True)
                self.folder.rename(self.previous)
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "part.try").touch()
            (self.folder / "part.try").unlink()
        except OSError as error:
            advice = "set RUNS_DIR to a folder that can"
            raise type(error)(f"{self.folder} cannot be written ({error.strerror}): {advice}") from None

    @contextmanager
    def alone(self):
        """One process at a time works on the run: runs of other seeds may need the same one before them."""
        lock = FileLock(self.folder.with_name(f"lock.{self.folder.name}"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"{self}: waits for another process that is at it", flush=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def compute(self, work):
        """Let work() write the record or, where another process has been faster, read that one's."""
        with self.alone():
            if self.own.is_file():
                self.record = files.read_json(self.own)
            else:
                work()

    def _folder_of(self, seed):
        return RUNS / self.experiment / self.fingerprint / f"seed-{seed}"

    def _published_of(self, seed):
        return RESULTS / self.experiment / f"seed-{seed}"

    def _evidence_of(self, seed):
        """The folder that holds evidence of exactly these parameters, or None."""
        folders = [self._published_of(seed), self._folder_of(seed)]
        # Who trains again wants to see what came of it.
        for folder in reversed(folders) if self.retrain and seed == self.seed else folders:
            path = folder / "record.json"
            if path.is_file() and files.read_json(path)["fingerprint"] == self.fingerprint:
                return folder
        return None

    def find(self, seed):
        """The record of a seed, or None."""
        folder = self._evidence_of(seed)
        if folder is None:
            return None
        if asked_of_evidence() == "publish" and folder == self._folder_of(seed):
            folder = publish(folder)
        return files.read_json(folder / "record.json")

    def seeds(self):
        """The records of all seeds that were run at these parameters, by seed."""
        folders = [*(RESULTS / self.experiment).glob("seed-*"), *self.folder.parent.glob("seed-*")]
        numbers = sorted({int(folder.name.removeprefix("seed-")) for folder in folders})
        return [record for number in numbers if (record := self.find(number)) is not None]

    def arrays(self, name="test", seed=None):
        """Arrays that the run left beside its record: test -> {"log_probabilities", "labels"}."""
        folder = self._evidence_of(self.seed if seed is None else seed)
        return files.load_arrays(folder / f"{name}.npz")

    def outlook(self):
        if self.record is not None:
            published = self._evidence_of(self.seed) == self._published_of(self.seed)
            return "reads the published evidence" if published else "reads the evidence of a run of yours"
        if self.state.is_file():
            return f"resumes after epoch {files.read_json(self.state)['epoch']}"
        if self.retrain:
            return "trains again, as asked"
        own = self.data["name"] in PUBLISHED_SIZES and not self.data["published"]
        return f"has no evidence yet{' for these pixels' if own else ''}, computes it"

    def write(self, record, **arrays):
        """Write the evidence: the arrays first, the record last, each whole or not at all."""
        for name, content in arrays.items():
            files.save_arrays(self.folder / f"{name}.npz", content)
        head = {
            "schema": SCHEMA,
            "experiment": self.experiment,
            "seed": self.seed,
            "parameters": self.parameters,
            "fingerprint": self.fingerprint,
            "data": self.data,
            "source_weights": self.weights,
        }
        files.write_json(self.own, head | record)
        shutil.rmtree(self.previous, ignore_errors=True)
        self.record = files.read_json(self.own)
        return self.record


def fingerprint(experiment, data, parameters, weights):
    """Twelve hexadecimal digits of what decides a result, the seed left out."""
    decisive = {
        "schema": SCHEMA,
        "experiment": experiment,
        "data": data,
        "parameters": parameters,
        "weights": weights,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


def publish(folder):
    """Copy finished evidence from runs/ to results/: of whole, original data and committed code only."""
    record = files.read_json(folder / "record.json")
    data = record["data"]
    sizes = tuple(data[part] for part in ("train", "validation", "test"))
    if not data["published"] or sizes != PUBLISHED_SIZES[data["name"]]:
        raise ValueError(f"{folder} is not of the whole, original data set: not published")
    if record["measured"]["dirty"]:
        raise ValueError(f"{folder} was computed by code that is not committed: not published")
    target = RESULTS / record["experiment"] / f"seed-{record['seed']}"
    arrays = sorted(folder.glob("*.npz")) if data["name"] == "cifar10" else []  # a source task's: too large
    for path in (*arrays, folder / "record.json"):
        files.write_whole(target / path.name, lambda part, path=path: shutil.copyfile(path, part))
    for other in target.parent.glob("seed-*"):
        known = other / "record.json"
        if not known.is_file() or files.read_json(known)["fingerprint"] != record["fingerprint"]:
            shutil.rmtree(other)  # half published, or of other parameters
    return target


def environment():
    """Versions, commit and whether the checkout was changed: the part of a record that names the machine."""
    versions = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    commit = git("rev-parse", "HEAD")
    # Where git doesn't answer, nobody knows what code this is.
    return {"versions": versions, "commit": commit, "dirty": not commit or bool(git("status", "--porcelain"))}


def cpu_name():
    """The processor's model, as the system names it, and its cores."""
    name = platform.processor() or platform.machine()
    if CPUINFO.is_file():
        lines = CPUINFO.read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"CPU ({name}, {os.cpu_count()} cores)"


def git(*arguments):
    """What git says of this checkout; empty where there is no git or no checkout."""
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""
