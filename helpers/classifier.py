"""A trained model that is asked about pictures: which class, how sure, or none of them; and what decided.

    classifier = Classifier()    # the published model, or Classifier("runs/.../model.keras")
    for answer in classifier.classify(gather("holiday")):
        print(answer.picture, answer.best, answer.top)
    classifier.heat_map("cat.jpg", "cat")

Beside the model lies its description, as `model_files.describe` writes it. These are read:

    classes         in the order of the model's outputs
    input           {"size"}: pixels each way that pictures are read at
    temperature, floor   what makes probabilities honest (see calibration); 1 and 0 if absent
    none_of_these   {"score", "threshold"}, and "layers" and "reference" where the score is of features: what
                    stays below the threshold is none of the classes; if absent, everything is one of them
"""

import hashlib
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from helpers import calibration, download, files, images, model_files, photos, runs

NONE = "none of these"
DOWNLOADS = runs.RUNS / "downloads"
LARGEST_DOWNLOAD = 50 * 2**20  # bytes
# What is decoded, and then answered, at a time: many, as long as the pictures are small.
CHUNK_PIXELS, CHUNK_LEAST, CHUNK_MOST = 2**18, 8, 64
VIEWS = (-2, -1, 0, 1, 2)  # sixteenths of the picture by which a heat map's views are moved, each way


def gather(place: str | os.PathLike) -> list[Path]:
    """The file, the pictures in the folder, or the picture at the web address, which is downloaded."""
    if is_address(place):
        return [_downloaded(str(place))]
    path = Path(os.path.expanduser(place))
    if not path.exists():
        raise FileNotFoundError(f"{path.absolute()}: there is no such file or folder")
    found = images.find_pictures(path) if path.is_dir() else [path]
    if not found:
        raise FileNotFoundError(f"{path} holds no pictures ({', '.join(sorted(images.ENDINGS))})")
    return found


def is_address(place: str | os.PathLike) -> bool:
    return str(place).startswith(("http://", "https://"))


def _downloaded(url: str) -> Path:
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    name = re.sub(r"[^\w.-]", "_", PurePosixPath(urlsplit(url).path).name)[-100:]
    path = DOWNLOADS / f"{digest}-{name or 'picture'}"
    content = download.content(url, LARGEST_DOWNLOAD)
    files.write_whole(path, lambda part: part.write_bytes(content))
    return path


RANKED = ("class", "probability")  # columns of a table, for each rank


class Answer(NamedTuple):
    picture: photos.Source
    top: tuple[tuple[str, float], ...] = ()  # the likeliest classes and their probabilities
    unfamiliar: bool = False  # too little like what the model was trained on to be one of its classes
    problem: str = ""  # why there is no answer, in one line

    @property
    def best(self) -> str | None:
        """The class, or that it is none of them; None where the picture cannot be read."""
        return None if self.problem else NONE if self.unfamiliar else self.top[0][0]

    def row(self) -> dict:
        """A line of a table."""
        ranks = enumerate(self.top, start=1)
        classes = {f"{word}_{rank}": value for rank, pair in ranks for word, value in zip(RANKED, pair)}
        return {"picture": str(self.picture), "answer": self.best, **classes, "problem": self.problem}


class Classifier:
    def __init__(self, path: str | os.PathLike = model_files.MODEL):
        facts = model_files.facts(path)
        if missing := {"classes", "input"} - facts.keys():
            raise ValueError(f"the description of {path} lacks {' and '.join(sorted(missing))}")
        self.classes, self.size = facts["classes"], facts["input"]["size"]
        self.calibration = {name: facts[name] for name in ("temperature", "floor") if name in facts}
        self.rule = facts.get("none_of_these")
        self.features = self.rule.get("layers", ()) if self.rule else ()
        # Only now, as it imports Keras: that takes seconds, and a model that isn't there is missed at once.
        from helpers.inference import Network

        self.network = Network(path, len(self.classes), self.features)

    def classify(self, pictures: Iterable[photos.Source], top: int = 3) -> Iterator[Answer]:
        """An answer to each picture (a path or a file's bytes), in order, while the next are being read."""
        if top < 1:
            raise ValueError(f"top must be a whole number, 1 or more, not {top!r}")
        for chunk, futures in self._read_ahead(list(pictures)):
            found = [future.result() for future in futures]
            pixels = [pixels for pixels in found if isinstance(pixels, np.ndarray)]
            judged = self._judged(np.stack(pixels), top) if pixels else iter(())
            for picture, content in zip(chunk, found):
                if isinstance(content, np.ndarray):
                    yield Answer(picture, *next(judged))
                else:
                    yield Answer(picture, problem=content)

    def _read_ahead(self, pictures: list) -> Iterator[tuple[list, list[Future]]]:
        """Chunks of pictures and of their pixels; behind the one in use no more than one is being read."""
        step = min(CHUNK_MOST, max(CHUNK_LEAST, CHUNK_PIXELS // self.size**2))
        waiting = deque()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(pictures), step):
                chunk = pictures[start : start + step]
                waiting.append((chunk, [pool.submit(self._pixels, picture) for picture in chunk]))
                if len(waiting) == 2:
                    yield waiting.popleft()
            yield from waiting

    def _pixels(self, picture: photos.Source) -> np.ndarray | str:
        try:
            return photos.read(picture, self.size)
        except photos.Unreadable as error:
            return str(error)

    def _judged(self, pixels: np.ndarray, top: int) -> Iterator[tuple]:
        logits, features = self.network.outputs(pixels)
        unfamiliar = self._familiarity(logits, features) < self.rule["threshold"] if self.rule else ()
        probabilities = np.exp(calibration.log_probabilities(logits, **self.calibration))
        for index, row in enumerate(probabilities):
            best = np.argsort(-row, kind="stable")[:top]
            ranking = tuple((self.classes[label], float(row[label])) for label in best)
            yield ranking, bool(self.rule and unfamiliar[index])

    def _familiarity(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        packed = self.rule.get("reference")
        reference = packed and calibration.unpacked(packed)
        return calibration.familiarity(self.rule["score"], logits, features, reference)

    def heat_map(self, picture: photos.Source, name: str) -> np.ndarray:
        """Where the picture's central square speaks for a class, 0 to 1, `size` each way.

        The network's own grid is coarse, 8x8 for VGG16 at 32 pixels: so the picture is shown to it 25 times,
        each time a little moved, and what comes out is moved back and averaged.
        """
        step = max(1, self.size // 16)
        margin = step * max(VIEWS)
        padded = np.pad(photos.read(picture, self.size), [(margin, margin), (margin, margin), (0, 0)], "edge")
        corners = [(margin + step * down, margin + step * right) for down in VIEWS for right in VIEWS]
        windows = [np.s_[top : top + self.size, left : left + self.size] for top, left in corners]
        maps = self.network.heat(np.stack([padded[window] for window in windows]), self.classes.index(name))
        total, seen = np.zeros((2, *padded.shape[:2]))
        for window, heat in zip(windows, maps):
            fine = Image.fromarray(heat).resize((self.size, self.size), Image.Resampling.BILINEAR)
            total[window] += np.asarray(fine)
            seen[window] += 1
        square = np.s_[margin : margin + self.size, margin : margin + self.size]
        heat = total[square] / seen[square]
        return heat / max(heat.max(), np.finfo("float32").tiny)
