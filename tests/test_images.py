"""Any picture a person has: files of all kinds, a thousand damaged ones, large ones with memory measured."""

import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import images, photos

MEMORY_LIMIT = 512e6  # bytes of a whole process
RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)


def corners(width=48, height=48):
    """Red, green / blue, grey."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = RED, GREEN
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = BLUE, GREY
    return pixels


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def close(found, expected, tolerance=1):
    return np.abs(np.asarray(found).astype(int) - np.asarray(expected).astype(int)).max() <= tolerance


def refused(source):
    """The one line that says why, which must name the file."""
    with pytest.raises(photos.Unreadable) as caught:
        photos.read(source, 8)
    line = str(caught.value)
    assert "\n" not in line and line.endswith(caught.value.reason) and isinstance(caught.value, ValueError)
    assert line.startswith("the picture: " if isinstance(source, bytes) else f"{source}: ")
    return caught.value.reason


def png(width, height, bits, colour, rows, *, interlace=0):
    """A PNG of rows (filter byte and pixels), compressed one by one: some would be too many at once."""
    compressor = zlib.compressobj(1)
    pixels = b"".join(compressor.compress(row) for row in rows) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# --- The right pixels


@pytest.mark.parametrize("kind, options", [("JPEG", {}), ("PNG", {}), ("WEBP", {}), ("BMP", {}), ("GIF", {})])
def test_a_path_its_text_and_its_bytes_give_the_same_picture(tmp_path, kind, options):
    path = tmp_path / "photo.bin"  # the ending doesn't matter
    path.write_bytes(encoded(Image.fromarray(corners()), kind, **options))
    found = photos.read(path, 48)
    assert found.shape == (48, 48, 3) and found.dtype == np.uint8
    quarters = found[12:48:24, 12:48:24].reshape(4, 3)
    assert close(quarters, [RED, GREEN, BLUE, GREY], 6)
    for source in (str(path), path.read_bytes()):
        assert (photos.read(source, 48) == found).all()
    whole = photos.open_upright(path)
    assert whole.mode == "RGB" and whole.size == (48, 48) and whole.info == {}


UPRIGHT = {  # orientation -> how the camera stored what is upright
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    "kind, options",
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_every_orientation_comes_out_upright(kind, options, orientation):
    upright = corners(64, 32)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(UPRIGHT[orientation](upright)))
    photo = encoded(stored, kind, exif=exif, **options)
    assert close(photos.open_upright(photo), upright, 4)
    assert close(photos.read(photo, 32), upright[:, 16:48], 4)


def transparent_pictures():
    """Half transparent over hidden black, half opaque red; name -> file."""
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[:, 8:] = (*RED, 255)
    rgba = Image.fromarray(rgba)
    keyed = Image.fromarray(np.asarray(rgba)[..., :3])
    palette = Image.frombytes("P", (16, 16), (np.asarray(rgba)[..., 3] // 255).tobytes())
    palette.putpalette([0, 0, 0, *RED])
    return {
        "RGBA PNG": encoded(rgba, "PNG"),
        "RGBA WebP": encoded(rgba, "WEBP", lossless=True),
        "RGBA TIFF": encoded(rgba, "TIFF", compression="tiff_deflate"),
        "RGB PNG, colour key": encoded(keyed, "PNG", transparency=(0, 0, 0)),
        "palette PNG": encoded(palette, "PNG", transparency=0),
        "palette PNG, table": encoded(palette, "PNG", transparency=b"\0\xff"),
        "palette GIF": encoded(palette, "GIF", transparency=0),
    }


@pytest.mark.parametrize("name", transparent_pictures())
def test_what_is_transparent_is_white(name):
    found = photos.read(transparent_pictures()[name], 16)
    assert found[:, :7].min() == 255 and (found[:, 9:] == RED).all()


def test_half_transparent_is_half_white():
    assert close(photos.read(encoded(Image.new("LA", (4, 4), (0, 128)), "PNG"), 4), 127)
    deep = png(4, 4, 16, 4, [b"\0" + struct.pack(">HH", 0, 32_896) * 4] * 4)  # 16-bit grey with alpha
    assert close(photos.read(deep, 4), 127)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind):
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert close(photos.read(encoded(ink, kind), 8), [RED] * 8, 4)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_few_bits(mode):
    steps = Image.fromarray(np.tile(np.repeat(np.array([0, 255], np.uint8), 8), (16, 1)))
    for kind in ("PNG", "TIFF", "BMP", "GIF"):
        found = photos.read(encoded(steps.convert(mode), kind), 16)
        assert found[:, :7].max() == 0 and found[:, 9:].min() == 255


def test_16_bits_are_scaled_and_not_cut_off():
    ramp = np.linspace(0, 65_535, 16).astype(np.uint16)
    expected = np.tile(np.rint(ramp / 257).astype(np.uint8)[:, None], (16, 1, 3))
    grey = np.tile(ramp, (16, 1))
    big_endian = b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey)
    for photo in (
        encoded(Image.fromarray(grey), "PNG"),
        encoded(Image.fromarray(grey), "TIFF"),
        encoded(Image.fromarray(grey), "TIFF", compression="tiff_lzw"),
        png(16, 16, 16, 0, [big_endian]),
        png(16, 16, 16, 2, [b"\0" + row.astype(">u2").repeat(3).tobytes() for row in grey]),
    ):
        assert close(photos.read(photo, 16), expected)
    keyed = encoded(Image.fromarray(grey), "PNG", transparency=0)
    assert (photos.read(keyed, 16)[:, 0] == 255).all()


@pytest.mark.parametrize("white", [1.0, 255.0, 65_535.0, 1e6])
def test_numbers_of_any_range_are_scaled(white):
    ramp = np.tile(np.linspace(0, white, 16, dtype=np.float32), (16, 1))
    expected = np.tile(np.linspace(0, 255, 16)[None, :, None], (16, 1, 3))
    assert close(photos.read(encoded(Image.fromarray(ramp), "TIFF"), 16), expected)
    if white > 1:
        assert close(photos.read(encoded(Image.fromarray(ramp.astype(np.int32)), "TIFF"), 16), expected)
    ramp[0], ramp[1], ramp[2] = np.nan, -np.inf, -1
    assert close(photos.read(encoded(Image.fromarray(ramp), "TIFF"), 16)[:3], 0)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])  # MPO: telephones' JPEGs
def test_an_animation_is_its_first_frame(kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    photo = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert close(photos.read(photo, 16), [RED] * 16, 3)


@pytest.mark.parametrize("width, height", [(1, 1), (1, 7), (3_000, 1), (1, 3_000), (2, 2_001), (4_001, 90)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_odd_sizes(kind, width, height):
    photo = encoded(Image.new("RGB", (width, height), RED), kind)
    assert close(photos.read(photo, 32), [RED] * 32, 3)
    shown = photos.open_upright(photo, 100)
    longest = max(width, height)
    expected = [max(1, round(side * min(1, 100 / longest))) for side in (width, height)]
    assert shown.size == tuple(expected) and close(shown, RED, 3)


def test_only_the_central_square_is_read():
    wide = np.zeros((30, 90, 3), np.uint8)
    wide[:, 30:60] = (250, 10, 10)
    assert (photos.read(encoded(Image.fromarray(wide), "PNG"), 10) == (250, 10, 10)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_resizing_is_antialiased(kind):
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    photo = encoded(Image.fromarray(stripes), kind, **({"quality": 95} if kind == "JPEG" else {}))
    assert close(photos.read(photo, 32), 127, 16)
    assert close(photos.open_upright(photo, 100).crop((2, 2, 98, 98)), 127, 16)


def smooth(height, width, bands):
    """Shades that differ in all bands and directions, a little noisy: PNG uses all its filters for them."""
    y, x = np.mgrid[:height, :width]
    shades = np.stack([(y * (1 + i) / 3 + x * (3 - i) / 5) % 256 for i in range(bands)], axis=-1)
    return (shades + np.random.RandomState(0).randint(0, 3, shades.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_large_pictures_are_reduced_as_well_as_by_resizing_at_once(kind):
    picture = Image.fromarray(smooth(700, 900, 3)).resize((900, 700), Image.Resampling.BOX)
    photo = encoded(picture, kind, **({"quality": 98, "subsampling": 0} if kind == "JPEG" else {}))
    at_once = picture.resize((90, 70), Image.Resampling.LANCZOS)
    difference = np.abs(np.asarray(photos.open_upright(photo, 90)).astype(int) - np.asarray(at_once))
    assert difference.mean() < 2


# --- One line


def test_what_is_no_picture_is_said_in_one_line(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("Dear diary,\n" * 100)
    (tmp_path / "film.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(1000))
    os.mkfifo(tmp_path / "pipe.jpg") if hasattr(os, "mkfifo") else (tmp_path / "pipe.jpg").mkdir()
    assert refused(tmp_path / "empty.jpg") == refused(b"") == "is empty"
    for name in ("text.jpg", "film.heic"):
        assert "is no JPEG, PNG, WebP, GIF, BMP or TIFF" in refused(tmp_path / name)
    assert refused(tmp_path) == "is a folder, not a picture"
    assert "not a picture" in refused(tmp_path / "pipe.jpg")
    assert "No such file" in refused(tmp_path / "missing.jpg")
    assert "No such file" in refused(str(tmp_path / "missing.jpg"))


@pytest.fixture
def nobody():
    """Root may read anything, nobody may not."""
    if not hasattr(os, "seteuid"):
        pytest.skip("permissions are another matter on Windows")
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    yield
    os.seteuid(user)


@pytest.fixture
def private():
    """A picture, and a folder with another one, that their owner keeps to himself, in a folder for all."""
    with tempfile.TemporaryDirectory() as album:
        os.chmod(album, 0o755)
        Path(album, "secret").mkdir()
        for name in ("seen.png", "private.png", "secret/b.png"):
            Path(album, name).write_bytes(encoded(Image.new("RGB", (4, 4)), "PNG"))
        for name in ("private.png", "secret"):
            Path(album, name).chmod(0)
        yield Path(album)
        Path(album, "secret").chmod(0o700)


def test_a_file_that_may_not_be_read(private, nobody):
    assert refused(private / "private.png") == "Permission denied"


def test_a_folder_that_may_not_be_read_does_not_stop_the_rest(private, nobody, capsys):
    assert [path.name for path in images.find_pictures(private)] == ["private.png", "seen.png"]
    said = capsys.readouterr().err
    assert said == f"{private / 'secret'} is left out: Permission denied\n"
    with pytest.raises(photos.Unreadable, match="secret: Permission denied"):
        images.find_pictures(private / "secret")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_half_a_file_is_refused(tmp_path, kind, capfd):
    noise = Image.fromarray(np.random.RandomState(0).randint(0, 256, (60, 60, 3), np.uint8))
    photo = encoded(noise, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    (tmp_path / "photo").write_bytes(photo[: len(photo) // 2])
    assert "damaged" in refused(tmp_path / "photo") and "damaged" in refused(photo[: len(photo) // 2])
    assert capfd.readouterr() == ("", "")


def test_other_formats_are_not_even_tried():
    assert "is no JPEG" in refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")


def test_broken_exif_is_no_reason_to_refuse_a_picture(capfd):
    exif = Image.Exif()
    exif[0x0112] = 6
    for block in (b"Exif\0\0II*\0", b"Exif\0\0nonsense", exif.tobytes()[:-9]):
        photo = encoded(Image.fromarray(corners()), "JPEG", exif=block, quality=95)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert close(photos.read(photo, 48)[12, 12], RED, 6)
    assert capfd.readouterr() == ("", "")


def test_libtiff_and_pillow_complain_to_nobody_and_stderr_works_on(capfd, caplog):
    photo = encoded(Image.fromarray(smooth(60, 60, 3)), "TIFF", compression="tiff_deflate")
    samples = struct.pack("<HHI", 277, 3, 1)  # how many a pixel has
    assert photo.count(samples) == 1
    refused(photo.replace(samples + b"\3\0", samples + b"\xff\x7f"))
    damaged = bytearray(photo)
    damaged[len(photo) // 2] ^= 255  # in the pixels
    assert "damaged" in refused(bytes(damaged))
    assert not caplog.records
    os.write(2, b"still here")
    assert capfd.readouterr() == ("", "still here")


# --- Many threads


def test_threads_read_together_and_leave_everything_as_it_was(capfd):
    bomb_limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    good = [encoded(Image.fromarray(corners()), kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    cut = [photo[: len(photo) * 2 // 3] for photo in good]

    def outcome(photo):
        try:
            return photos.read(photo, 16).shape
        except photos.Unreadable:
            return None

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(outcome, (good + cut) * 25))
    assert found == ([(16, 16, 3)] * 4 + [None] * 4) * 25
    assert bomb_limit == Image.MAX_IMAGE_PIXELS and warnings.filters == filters
    assert capfd.readouterr() == ("", "")


def test_threads_share_the_memory():
    room, inside, most = photos._Room(10), [], []

    def work(amount):
        with room.taken(amount):
            inside.append(amount)
            most.append(sum(inside))
            time.sleep(0.002)
            inside.remove(amount)

    threads = [threading.Thread(target=work, args=(amount,)) for amount in (6, 3, 4, 10, 1, 5) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 10 and len(most) == 24


# --- Large ones


@pytest.mark.parametrize(
    "mode, options", [("RGB", {}), ("RGBA", {}), ("LA", {}), ("RGB", {"transparency": 0})]
)
@pytest.mark.parametrize("square", [True, False])
def test_a_png_in_strips_is_the_same_as_at_once(monkeypatch, mode, options, square):
    pixels = smooth(450, 150, len(mode))
    if options:
        options = {"transparency": tuple(int(value) for value in pixels[225, 70])}
    photo = encoded(Image.fromarray(pixels), "PNG", **options)
    monkeypatch.setattr(photos, "BAND_PIXELS", 1_500)

    def read():
        return photos._load(photo, 20, square).tobytes()

    at_once = read()
    stripped = []
    monkeypatch.setattr(photos, "BAND_MEMORY", 0)
    monkeypatch.setattr(photos, "MEMORY", 4 * 450 * 150)
    monkeypatch.setattr(photos, "_decoded", stripped.append)  # nothing may be decoded at once
    assert read() == at_once and not stripped
    photo = photo[: len(photo) // 2]
    assert "damaged, incomplete or of an unusual kind (its pixels end too early)" in refused(photo)


def test_bombs_are_refused_by_their_header():
    for width, height in ((100_000, 100_000), (16_000, 16_000), (70_000, 1)):
        assert "too many: save it smaller" in refused(png(width, height, 8, 2, [bytes(100)]))
    assert f"{12_000:,} x {12_000:,} pixels" in refused(png(12_000, 12_000, 16, 2, [bytes(100)]))


def test_what_would_take_too_much_memory_is_refused_by_its_header(monkeypatch):
    picture = Image.fromarray(smooth(200, 200, 3))
    scan, alone = bytes.fromhex("ffda000c03010002110311003f00"), bytes.fromhex("ffda0008010100003f00")
    plain = encoded(picture, "JPEG")
    assert plain.count(scan) == 1
    large = {
        "WebP": encoded(picture, "WEBP"),
        "TIFF": encoded(picture, "TIFF", compression="tiff_lzw"),
        "BMP": encoded(picture, "BMP"),
        "progressive JPEG": encoded(picture, "JPEG", progressive=True),
        "one component a scan": plain.replace(scan, alone),
        "interlaced PNG": png(200, 200, 8, 2, [bytes(601)] * 300, interlace=1),
    }
    monkeypatch.setattr(photos, "BAND_MEMORY", 0)
    monkeypatch.setattr(photos, "MEMORY", 100_000)
    for name, photo in large.items():
        assert "too many in this format: save it smaller" in refused(photo), name
    assert photos.read(plain, 8).shape == (8, 8, 3)


# Linux's getrusage counts what the parent held when it forked; its status file doesn't.
PEAK = """
import resource, sys
from pathlib import Path
if sys.platform == "darwin":
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
else:
    lines = Path("/proc/self/status").read_text().splitlines()
    print(1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")))
"""


def in_a_process_of_its_own(script, *arguments):
    """What the script prints as JSON, and its peak of memory; it may not write to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", script + PEAK, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(photos.__file__).parents[1],
    )
    assert done.returncode == 0 and done.stderr == ""
    found, peak = done.stdout.splitlines()
    return json.loads(found), int(peak)


READ_EACH = """
import json, sys
from helpers import photos
print(json.dumps([photos.read(path, 224).mean(axis=(0, 1)).tolist() for path in sys.argv[1:]]))
"""
needs_getrusage = pytest.mark.skipif(sys.platform == "win32", reason="Windows measures memory otherwise")


@needs_getrusage
def test_144_million_pixels_stay_below_512_mb(tmp_path):
    side = 12_000
    row = bytes(RED) * (side // 2) + bytes(BLUE) * (side // 2)
    (tmp_path / "a.png").write_bytes(
        png(side, side, 8, 2, [b"\0" + row] + [b"\2" + bytes(3 * side)] * (side - 1))
    )
    (tmp_path / "b.png").write_bytes(png(side, side, 8, 0, [b"\0" + bytes([200]) * side] * side))
    Image.new("L", (side, side), 200).save(tmp_path / "c.jpg", quality=50)
    (striped, *grey), peak = in_a_process_of_its_own(
        READ_EACH, *(tmp_path / n for n in ("a.png", "b.png", "c.jpg"))
    )
    assert close(striped, (127, 0, 127), 2) and close(grey, 200, 2)
    assert peak < MEMORY_LIMIT


# --- Damaged ones

MUTATE = """
import json, random, struct, sys, zlib
from pathlib import Path
from helpers import photos

random = random.Random(0)
SIDES = (0, 1, 3, 4_000, 12_000, 30_000, 65_535, 2**31 - 1)

def flip_bits(data):
    for _ in range(random.choice((1, 3, 30))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)

def flip_bits_of_header(data):
    for _ in range(random.randint(1, 4)):
        data[random.randrange(min(64, len(data)))] = random.choice((0, 1, 127, 255, random.randrange(256)))

def truncate(data):
    del data[random.randrange(len(data)) :]

def insert(data):
    at = random.randrange(len(data))
    data[at:at] = random.randbytes(random.choice((1, 2, 7, 300)))

def swap(data):
    a, b, c, d = sorted(random.sample(range(len(data) + 1), 4))
    data[a:d] = data[c:d] + data[b:c] + data[a:b]

def lie_about_size(data):
    sides = random.choice(SIDES), random.choice(SIDES)
    short = [min(side, 65_535) for side in sides]
    if data[1:4] == b"PNG":
        data[16:24] = struct.pack(">II", *sides)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif data[:2] == b"BM":
        data[18:26] = struct.pack("<II", *sides)
    elif data[:3] == b"GIF":
        data[6:10] = struct.pack("<HH", *short)
    elif data[:2] == b"\\xff\\xd8":
        frame = max(data.find(b"\\xff\\xc0"), data.find(b"\\xff\\xc2"))
        data[frame + 5 : frame + 9] = struct.pack(">HH", *short)
    elif data[:4] == b"II*\\0":
        for tag, side in zip((256, 257), sides):
            at = data.find(struct.pack("<HHI", tag, 4, 1)) + 8
            data[at : at + 4] = struct.pack("<I", side)
    elif data[12:16] == b"VP8X":
        data[24:30] = b"".join(struct.pack("<I", min(side, 2**24 - 1))[:3] for side in sides)

MUTATIONS = (flip_bits, flip_bits_of_header, truncate, insert, swap, lie_about_size)
seeds = sorted(Path(sys.argv[1]).iterdir())
outcomes = dict(read=0, refused=0)
path = Path(sys.argv[2])
for i in range(int(sys.argv[3])):
    data = bytearray(seeds[i % len(seeds)].read_bytes())
    for mutate in random.sample(MUTATIONS, random.choice((1, 1, 2))):
        if len(data) > 64:
            mutate(data)
    path.write_bytes(data)
    source = bytes(data) if i % 5 == 0 else path
    try:
        found = photos.read(source, 32)
        assert found.shape == (32, 32, 3) and found.dtype.name == "uint8"
        outcomes["read"] += 1
    except photos.Unreadable as error:
        assert len(str(error).splitlines()) == 1 and error.reason, repr(str(error))
        outcomes["refused"] += 1
print(json.dumps(outcomes))
"""


def write_seeds(folder):
    """Valid pictures of all formats and kinds."""
    photo = Image.fromarray(smooth(90, 120, 3))
    alpha = Image.fromarray(smooth(90, 120, 4))
    deep = Image.fromarray(smooth(90, 120, 1)[..., 0].astype(np.uint16) * 257)
    frames = {"save_all": True, "append_images": [photo.transpose(Image.Transpose.ROTATE_180)]}
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "upside down"
    kinds = [
        ("JPEG", {"exif": exif}),
        ("JPEG", {"progressive": True}),
        ("PNG", {"exif": exif}),
        ("PNG", frames),
    ]
    kinds += [
        ("WEBP", {"exif": exif}),
        ("WEBP", {"lossless": True}),
        ("WEBP", frames),
        ("GIF", {}),
        ("GIF", frames),
    ]
    kinds += [("TIFF", {"compression": f"tiff_{c}"}) for c in ("lzw", "deflate")] + [
        ("TIFF", {"compression": "jpeg"})
    ]
    kinds += [("TIFF", {"exif": exif}), ("TIFF", frames), ("TIFF", {"compression": "packbits"}), ("BMP", {})]
    files = [encoded(photo, kind, **options) for kind, options in kinds]
    files += [encoded(alpha, kind) for kind in ("PNG", "WEBP", "TIFF")] + [
        encoded(alpha.convert("LA"), "PNG")
    ]
    files += [encoded(deep, kind) for kind in ("PNG", "TIFF")] + [encoded(photo.convert("CMYK"), "JPEG")]
    files += [encoded(photo.convert("P"), kind) for kind in ("PNG", "BMP")] + [
        encoded(photo.convert("F"), "TIFF")
    ]
    folder.mkdir()
    for i, file in enumerate(files):
        (folder / f"{i:02}").write_bytes(file)


@needs_getrusage
def test_no_damaged_file_crashes_it_or_takes_more_than_512_mb(tmp_path):
    write_seeds(tmp_path / "seeds")
    count = 1_000
    outcomes, peak = in_a_process_of_its_own(MUTATE, tmp_path / "seeds", tmp_path / "damaged", count)
    assert sum(outcomes.values()) == count and min(outcomes.values()) > 100
    assert peak < MEMORY_LIMIT


# --- Folders


def test_find_pictures_in_the_order_that_people_expect(tmp_path):
    shown = [
        "a.bmp",
        "b/1.tiff",
        "b/c/2.webp",
        "Img1.png",
        "img02.jpg",
        "img2.JPG",
        "img10.jpg",
        "z.jpeg",
        "½.gif",
    ]
    others = ["notes.txt", ".hidden.jpg", "no ending", ".cache/3.jpg", "Thumbs.db"]
    for name in sorted(shown + others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in images.find_pictures(tmp_path)]
    assert found == shown
    assert images.find_pictures(str(tmp_path / ".cache")) == [tmp_path / ".cache" / "3.jpg"]
    (tmp_path / "nothing").mkdir()
    assert images.find_pictures(tmp_path / "nothing") == []
    with pytest.raises(photos.Unreadable, match="No such file or directory"):
        images.find_pictures(tmp_path / "missing")


def test_the_rest_of_a_folder_goes_on(tmp_path, capsys):
    for i in range(20):
        Image.new("RGB", (9, 9), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "7.png").write_bytes(b"no picture")
    (tmp_path / "9.png").unlink()
    pictures = tuple(images.Picture(tmp_path / f"{i}.png", "train", 0, 0) for i in range(20))
    pixels, read = images.read_all(pictures, 4)
    assert (
        pixels[:, 0, 0, 0].tolist()
        == [i for i in range(20) if i not in (7, 9)]
        == [int(p.path.stem) for p in read]
    )
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 of 20 pictures cannot be read, left out:" and len(said) == 3
    assert (
        said[1].strip().startswith(f"{Path(tmp_path.name, '7.png')}: is no JPEG")
        and "No such file" in said[2]
    )
