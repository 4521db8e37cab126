"""Files that are there whole or not at all."""

import json
import os

import numpy as np


def write_whole(path, write):
    """Call write(part) and move the finished part to its place: no reader ever meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"part.{path.name}")  # the ending stays: Keras looks at it
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path, content):
    write_whole(path, lambda part: part.write_text(json.dumps(content, indent=1) + "\n"))


def read_json(path):
    return json.loads(path.read_text())


def load_arrays(path):
    with np.load(path) as arrays:
        return {key: arrays[key] for key in arrays.files}


def save_arrays(path, content):
    write_whole(path, lambda part: np.savez_compressed(part, **content))
