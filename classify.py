"""Say what is in pictures.

    python classify.py photo.jpg holiday/
    python classify.py holiday/ --json > answers.jsonl
    python classify.py photo.jpg --model model-of-your-own.keras

A PATH is a file, a folder with all in it, or a web address. Each picture gets a line: its name, its class or
"none of these", and the likeliest classes with their probabilities. With --json each line is an object:

    {"picture": "cat.jpg", "answer": "cat", "top": [{"class": "cat", "probability": 0.93}, ...]}

where "answer" is null for none of these. What cannot be read gets a line on stderr, and the rest goes on. The
exit status is 0 if all pictures were answered, 1 if some could not be read, 2 if the command was refused.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from helpers import model_files
from helpers.classifier import NONE, Classifier, gather, is_address
from helpers.streams import native_stderr_in

WIDEST = 60  # characters that shorter names are filled up to


def main(words=None):
    arguments = parse(words)
    try:
        pictures, unread = found(arguments.paths)
        if not pictures:
            return 1
        # TensorFlow greets on stderr whatever it is told. What goes wrong comes as an exception.
        with open(os.devnull, "w") as nowhere, native_stderr_in(nowhere):
            classifier = Classifier(arguments.model)
    except (ValueError, OSError) as error:
        print(f"classify.py: {error}", file=sys.stderr)
        return 2
    paths, names = zip(*pictures)
    show = as_json if arguments.json else as_text(names, classifier.classes)
    for name, answer in zip(names, classifier.classify(paths, arguments.top)):
        unread += bool(answer.problem)
        # Who gave an address knows nothing of the file that was made of it.
        line = answer.problem.replace(str(answer.picture), name, 1) or show(name, answer)
        print(line, file=sys.stderr if answer.problem else sys.stdout, flush=True)
    return 1 if unread else 0


def found(places):
    """(picture, what its line calls it) of each, and how many addresses gave none: these get lines, too."""
    pictures, unread = [], 0
    for place in places:
        try:
            pictures += [(path, place if is_address(place) else str(path)) for path in gather(place)]
        except (ValueError, OSError) as error:
            if not is_address(place):
                raise
            print(f"classify.py: {error}", file=sys.stderr)
            unread += 1
    return pictures, unread


def parse(words):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a picture, a folder or a web address")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--top", type=count, default=3, metavar="N", help="classes to name (%(default)s)")
    parser.add_argument(
        "--model", type=Path, default=model_files.MODEL, metavar="FILE", help="another model.keras"
    )
    return parser.parse_args(words)


def count(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, not {text!r}")
    return int(text)


def as_json(name, answer):
    top = [{"class": kind, "probability": round(probability, 4)} for kind, probability in answer.top]
    return json.dumps({"picture": name, "answer": None if answer.unfamiliar else answer.best, "top": top})


def as_text(names, classes):
    """What writes an answer in columns: the picture's name, the class, the likeliest classes."""
    widths = min(WIDEST, max(map(len, names))), max(map(len, [*classes, NONE]))

    def line(name, answer):
        top = ", ".join(f"{kind} {probability:.0%}" for kind, probability in answer.top)
        return f"{name:{widths[0]}}   {answer.best:{widths[1]}}   {top}"

    return line


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # for names of files that are no text
    # Of its own, because file descriptor 2 leads nowhere while a library reads that would write there.
    sys.stderr = open(os.dup(2), "w", buffering=1, errors="backslashreplace")  # noqa: SIM115
    # A GPU would only be slower to start, and take memory from others: the time goes into reading pictures.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    # Keras imports these if it can. Nothing here needs them, and they take a quarter of the time to start.
    sys.modules |= dict.fromkeys(("pandas", "sklearn"))
    try:
        status = main()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # whoever reads has enough, as `head` has: nothing more is written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)
