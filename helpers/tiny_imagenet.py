"""Tiny-ImageNet at 32x32: 200 classes of ImageNet, the source task where ImageNet's own weights can't be had.

Looked for in this order:
1. `TINY_IMAGENET_DIR`: a folder of `{train,val}/<class>/*`, or CS231n's archive, or the folder it unpacks to;
2. CS231n's `tiny-imagenet-200.zip` (64x64, scaled down here) in Keras's cache, downloaded if need be.

Twenty classes that none of CIFAR-10's resembles are never trained on: they serve as "none of the ten".
"""

import io
import os
import re
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from helpers import cifar10, download

SIZE = 32
ARCHIVE = "tiny-imagenet-200.zip"
URL = f"http://cs231n.stanford.edu/{ARCHIVE}"
ARCHIVE_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
# SHA-256 of the training images of the 180 classes, uint8, NHWC, by class and file name: of the copy at 32x32
# that the published weights were trained on.
TRAIN_SHA256 = "a5fffa5033cf8b7de66ad13c09b9385c7755b6a2be41ac7ef10201114a5e9c9d"
HELD_OUT = {
    "n02666196": "abacus",
    "n12267677": "acorn",
    "n07720875": "bell pepper",
    "n02948072": "candle",
    "n06596364": "comic book",
    "n03085013": "computer keyboard",
    "n07920052": "espresso",
    "n03544143": "hourglass",
    "n03637318": "lampshade",
    "n07734744": "mushroom",
    "n03854065": "organ",
    "n07873807": "pizza",
    "n07695742": "pretzel",
    "n04074963": "remote control",
    "n04179913": "sewing machine",
    "n04275548": "spider web",
    "n04356056": "sunglasses",
    "n04398044": "teapot",
    "n04507155": "umbrella",
    "n04540053": "volleyball",
}
WORDNET_IDS = """
    n01443537 n01629819 n01641577 n01644900 n01698640 n01742172 n01768244 n01770393 n01774384 n01774750
    n01784675 n01855672 n01882714 n01910747 n01917289 n01944390 n01945685 n01950731 n01983481 n01984695
    n02002724 n02056570 n02058221 n02074367 n02085620 n02094433 n02099601 n02099712 n02106662 n02113799
    n02123045 n02123394 n02124075 n02125311 n02129165 n02132136 n02165456 n02190166 n02206856 n02226429
    n02231487 n02233338 n02236044 n02268443 n02279972 n02281406 n02321529 n02364673 n02395406 n02403003
    n02410509 n02415577 n02423022 n02437312 n02480495 n02481823 n02486410 n02504458 n02509815 n02666196
    n02669723 n02699494 n02730930 n02769748 n02788148 n02791270 n02793495 n02795169 n02802426 n02808440
    n02814533 n02814860 n02815834 n02823428 n02837789 n02841315 n02843684 n02883205 n02892201 n02906734
    n02909870 n02917067 n02927161 n02948072 n02950826 n02963159 n02977058 n02988304 n02999410 n03014705
    n03026506 n03042490 n03085013 n03089624 n03100240 n03126707 n03160309 n03179701 n03201208 n03250847
    n03255030 n03355925 n03388043 n03393912 n03400231 n03404251 n03424325 n03444034 n03447447 n03544143
    n03584254 n03599486 n03617480 n03637318 n03649909 n03662601 n03670208 n03706229 n03733131 n03763968
    n03770439 n03796401 n03804744 n03814639 n03837869 n03838899 n03854065 n03891332 n03902125 n03930313
    n03937543 n03970156 n03976657 n03977966 n03980874 n03983396 n03992509 n04008634 n04023962 n04067472
    n04070727 n04074963 n04099969 n04118538 n04133789 n04146614 n04149813 n04179913 n04251144 n04254777
    n04259630 n04265275 n04275548 n04285008 n04311004 n04328186 n04356056 n04366367 n04371430 n04376876
    n04398044 n04399382 n04417672 n04456115 n04465501 n04486054 n04487081 n04501370 n04507155 n04532106
    n04532670 n04540053 n04560804 n04562935 n04596742 n04597913 n06596364 n07579787 n07583066 n07614500
    n07615774 n07695742 n07711569 n07715103 n07720875 n07734744 n07747607 n07749582 n07753592 n07768694
    n07871810 n07873807 n07875152 n07920052 n09193705 n09246464 n09256479 n09332890 n09428293 n12267677
"""
CLASSES = tuple(name for name in WORDNET_IDS.split() if name not in HELD_OUT)
# Training classes that are kinds of CIFAR-10's: who asks about such a picture wants an answer. Those that
# resemble one without being it (gazelle, lion, school bus, gondola) stand at None: no answer is right.
KINDS = {
    # beach wagon, convertible, limousine, sports car
    "automobile": "n02814533 n03100240 n03670208 n04285008",
    "bird": "n01855672 n02002724 n02056570 n02058221",  # goose, black stork, king penguin, albatross
    "cat": "n02123045 n02123394 n02124075",  # tabby, Persian, Egyptian
    # Chihuahua, Yorkshire terrier, golden and Labrador retriever, German shepherd, standard poodle
    "dog": "n02085620 n02094433 n02099601 n02099712 n02106662 n02113799",
    "frog": "n01641577 n01644900",  # bullfrog, tailed frog
    "ship": "n03662601",  # lifeboat
    "truck": "n03796401 n03977966",  # moving van, police van
    None: """
        n01629819 n02125311 n02129165 n02364673 n02395406 n02403003 n02410509 n02415577 n02423022 n02917067
        n03393912 n03444034 n03447447 n03599486 n04146614 n04465501 n04487081
    """,
}
KIN = {name: label for label, names in KINDS.items() for name in names.split()}
# Both layouts: train/n01443537/a.jpg, train/n01443537/images/a.JPEG, val/n01443537/b.jpg; val/images/b.JPEG
# finds its class in val/val_annotations.txt.
PICTURE = re.compile(r"(?:^|.*/)(train|val)/(n\d{8}|images)/(?:images/)?([^/]+\.jpe?g)$", re.IGNORECASE)


def find() -> Path | None:
    """The folder or archive to read, None if Tiny-ImageNet isn't on this machine."""
    named = os.environ.get("TINY_IMAGENET_DIR")
    if not named:
        return path if (path := cifar10.cache() / ARCHIVE).is_file() else None
    path = Path(os.path.expanduser(named))
    if (path / ARCHIVE).is_file():
        return path / ARCHIVE
    if path.is_file() or (path / "train").is_dir():
        return path
    raise FileNotFoundError(
        f"TINY_IMAGENET_DIR={path} holds no Tiny-ImageNet: it must be {ARCHIVE}, "
        "or a folder with train/ and val/"
    )


def obtain() -> Path:
    """Like `find`, but downloads what isn't there."""
    if found := find():
        return found
    target = cifar10.cache() / ARCHIVE
    advice = f"Put {ARCHIVE} into {target.parent}, or set TINY_IMAGENET_DIR to a copy that you have"
    return download.obtain("Tiny-ImageNet", URL, target, ARCHIVE_MD5, advice)


def read(path: Path, part: str, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Images (uint8, NHWC, 32x32) and labels of the part "train" or "val", by class and file name."""
    with _opened(path) as (names, content):
        annotations = _annotations(names, content)
        matches = filter(None, map(PICTURE.match, names))
        rows = [(annotations.get(m[3], m[2]), m[3], m[0]) for m in matches if m[1] == part]
        rows = sorted(row for row in rows if row[0] in classes)
        if missing := set(classes) - {label for label, _, _ in rows}:
            raise ValueError(f"{path} is not Tiny-ImageNet, or not all of it: {len(missing)} classes missing")
        with ThreadPoolExecutor() as pool:
            pixels = list(pool.map(lambda row: _pixels(content(row[2]), row[2]), rows))
    return np.stack(pixels), np.array([classes.index(label) for label, _, _ in rows], np.int64)


@contextmanager
def _opened(path):
    """The names of all files below a folder or in an archive, and what reads one."""
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        yield names, lambda name: (path / name).read_bytes()
        return
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive.namelist(), archive.read
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise ValueError(f"{path} is damaged or cut off: replace it") from None


def _annotations(names, content):
    """{file: class} of the validation images, as CS231n's archive lists them; empty for other layouts."""
    for name in names:
        if name.endswith("val_annotations.txt"):
            return dict(line.split("\t")[:2] for line in content(name).decode().splitlines())
    return {}


def _pixels(content, name):
    try:
        image = Image.open(io.BytesIO(content)).convert("RGB")
    except OSError as error:
        raise ValueError(f"Tiny-ImageNet's {name} cannot be read: {error}") from None
    if image.size != (SIZE, SIZE):
        image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return np.asarray(image)
