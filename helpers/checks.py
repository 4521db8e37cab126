"""Parameters are checked before anything is made: type and bound go by the end of a name."""

import difflib


def at_least(lowest):
    return (lambda value: value >= lowest), f"at least {lowest}"


def one_of(*words):
    return (lambda value: value in words), f"one of {', '.join(map(str, words))}"


RULES = {
    "epochs": (int, *at_least(1)),
    "size": (int, *at_least(1)),
    "resolution": (int, *at_least(32)),
    "images": (int, *at_least(1)),
    "steps": (int, *at_least(1)),
    "answers": (int, *at_least(1)),
    "hidden": (int, *at_least(1)),
    "patience": (int, *at_least(1)),
    "copies": (int, *one_of(1, 2)),
    "seed": (int, *at_least(0)),
    "shift": (int, *at_least(0)),
    "rate": (float, lambda value: value > 0, "more than 0"),
    "rate_stage": (float, lambda value: 0 < value < 1, "between 0 and 1, a share of the run"),
    "answered_at": (int, *at_least(1)),
    "factor": (float, lambda value: value > 0, "more than 0"),
    "dropout": (float, lambda value: 0 <= value < 1, "from 0 to below 1"),
    "smoothing": (float, lambda value: 0 <= value < 1, "from 0 to below 1"),
    "share": (float, lambda value: 0 <= value < 1, "from 0 to below 1"),
    "precision": (str, *one_of("float32", "mixed_bfloat16")),
    "backbone": (str, *one_of("vgg16", "resnet50")),
    "flips": (str, *one_of("none", "random", "alternating")),
    "views": (str, *one_of("single", "flip", "six")),
}


def parameters(values):
    """One clear line for a parameter of the wrong type or out of its bounds; of a list, for each value."""
    for name, value in values.items():
        if isinstance(value, list):
            for one in value:
                parameters({name.removesuffix("s"): one})
            continue
        for ending, (kind, is_valid, bound) in RULES.items():
            if name.endswith(ending):
                allowed = (int, float) if kind is float else kind
                if isinstance(value, bool) or not isinstance(value, allowed) or not is_valid(value):
                    raise ValueError(f"{name} must be of type {kind.__name__}, {bound}; got {value!r}")


def notebook(names):
    """Check a notebook's globals(): its parameters are what it annotates with a type."""
    parameters({name: names[name] for name in names["__annotations__"]})


def nearest(name, known):
    """The end of an error line: the nearest right name, or all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
