"""One file over HTTP: resumed where it broke off, checked by its hash, there whole or not at all."""

import hashlib
import http.client
import os
import queue
import string
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from filelock import FileLock

CHUNK_BYTES = 1 << 18
CONNECT_SECONDS = 8  # for the first byte, retries included: a closed network is noticed within 10 s
STALL_SECONDS = 30  # a connection silent for so long counts as broken off
ATTEMPTS = 5  # in a row that bring nothing new
BACKOFF_SECONDS = 0.5  # before the next one, doubled with every such attempt
AGENT = "cifar10-transfer-learning"  # some servers turn Python's own name away


class BrokenOff(Exception):
    """A connection that failed or ended early: worth another attempt."""


def fetch(url: str, target: Path, md5: str) -> None:
    """Download `url` to `target`. Until it is complete and its hash is right, it is called `.part`."""
    part = target.with_name(target.name + ".part")
    resumed = part.exists()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(part.with_suffix(".lock")):  # another process may write the same file
            if target.exists():  # it was faster
                return
            _complete(url, part)
            found = file_digest(part, "md5")
            if found == md5:
                os.replace(part, target)
                return
            part.unlink()
    except ConnectionError:
        raise
    except OSError as error:
        raise type(error)(f"{target} cannot be written ({error.strerror})") from None
    if not resumed:
        raise ValueError(f"{url} is not the right file (md5 {found}, not {md5}): nothing of it was kept")
    fetch(url, target, md5)  # an old leftover may be the damaged part: once more from the beginning


def obtain(what: str, url: str, target: Path, md5: str, advice: str) -> Path:
    """`fetch`, with what to do in the line that says what went wrong."""
    try:
        fetch(url, target, md5)
    except (OSError, ValueError) as error:
        raise type(error)(f"{what} is not here and cannot be downloaded: {error}. {advice}") from None
    return target


def content(url: str, at_most: int) -> bytes:
    """What a small file holds, in one go."""
    try:
        with _open(url, 0, CONNECT_SECONDS) as response:
            found, total = b"", int(response.headers.get("Content-Length", 0))
            while len(found) <= at_most and (chunk := _read(response)):
                found += chunk
            if len(found) < min(total, at_most):
                raise BrokenOff(f"broke off after {len(found):,} of {total:,} bytes")
    except BrokenOff as error:
        raise ConnectionError(f"{url}: {error}") from None
    if len(found) > at_most:
        raise ValueError(f"{url} has more than {at_most / 1e6:.0f} MB: save it and make it smaller")
    return found


def file_digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _complete(url: str, part: Path) -> None:
    """Connect again and again, until all is in `part` or too many attempts in a row have brought nothing."""
    failures, deadline = 0, time.monotonic() + CONNECT_SECONDS
    while True:
        before = _size(part)
        try:
            return _append(url, part, deadline - time.monotonic())
        except BrokenOff as error:
            if _size(part) > before:
                failures, deadline = 0, float("inf")
            else:
                failures += 1
            pause = BACKOFF_SECONDS * 2**failures
            if failures == ATTEMPTS or time.monotonic() + pause > deadline:
                raise ConnectionError(f"{url}: {error}") from None
            time.sleep(pause)


def _append(url: str, part: Path, seconds: float) -> None:
    """What one connection gives, added to what is there."""
    response = _open(url, _size(part), min(seconds, CONNECT_SECONDS))
    if response is None:
        return
    with response, part.open("ab") as file:
        if response.status != 206:  # the server starts over
            file.truncate(0)
            file.seek(0)
        done = file.tell()
        total = done + int(response.headers.get("Content-Length", 0))
        while chunk := _read(response):
            file.write(chunk)
            done += len(chunk)
            if total and done * 10 // total > (done - len(chunk)) * 10 // total:
                print(f"{part.stem}: {done / 1e6:.0f} of {total / 1e6:.0f} MB", flush=True)
    if done < total:
        raise BrokenOff(f"broke off after {done:,} of {total:,} bytes")


def _open(url: str, offset: int, seconds: float) -> http.client.HTTPResponse | None:
    """The answer to a request for the bytes from `offset`, None if there are none left.

    Asked for in a thread, because looking up a host's name can block for longer than any timeout.
    """
    part = {"Range": f"bytes={offset}-"} if offset else {}
    # As browsers do: letters beyond ASCII are written as numbers, what is written so already stays.
    address = urllib.parse.quote(url, safe=string.punctuation)
    request = urllib.request.Request(address, headers={"User-Agent": AGENT, **part})
    answers = queue.SimpleQueue()

    def ask():
        try:
            answers.put(urllib.request.urlopen(request, timeout=STALL_SECONDS))
        except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: no name of a host
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=max(seconds, 0.1))
    except queue.Empty:
        raise BrokenOff(f"no answer within {seconds:.0f} s") from None
    if isinstance(answer, urllib.error.HTTPError):
        if answer.code == 416:
            return None
        if answer.code < 500 and answer.code != 429:
            raise ConnectionError(f"{url}: the server answers {answer.code} {answer.reason}")
    if isinstance(answer, Exception):
        raise BrokenOff(getattr(answer, "reason", None) or answer)
    return answer


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise BrokenOff(error) from None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
