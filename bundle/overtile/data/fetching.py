"""Downloads that go on where they broke off."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import re
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm import tqdm

BLOCK = 2**18
TIMEOUT = 60.0  # seconds without a byte
PASSING = {408, 425, 429, 500, 502, 503, 504}  # what a server says when it is worth asking again
BY_HAND = "download it with a browser and pass it with --archive"

logger = logging.getLogger(__name__)


class FetchError(RuntimeError):
    """A download that cannot succeed now; the message says why, and what to do."""


class _BrokenOffError(ConnectionError):
    """A transfer that ended early or no longer fits what is there; asking again helps."""


@dataclass(frozen=True)
class Part:
    """The beginning of a file: ``<file>.part``, and beside it, in ``<file>.part.json``, of which version it is."""

    path: Path

    @property
    def notes(self) -> Path:
        """Where the address, the validator (ETag or Last-Modified) and the size of the whole file are written down."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        """Bytes there are."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def version(self, url: str) -> dict[str, str]:
        """What was noted at the beginning; empty where nothing is known with which one could go on."""
        try:
            noted = json.loads(self.notes.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return noted if self.size and noted.get("url") == url and _validator(noted) else {}

    def discard(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


def fetch(url: str, file: Path, md5: str | None = None, *, attempts: int = 5, pause: float = 2.0) -> Path:
    """Download ``url`` to ``file`` unless it is there; what an interruption leaves is continued by the next call.

    The bytes so far lie in ``<file>.part``. They are continued (RFC 9110: Range) only if the server states that the
    file is still the same (If-Range with its ETag or Last-Modified); otherwise the download starts anew.

    Args:
        url: the provider's address.
        file: appears when it is whole.
        md5: published checksum, hexadecimal; a file with another one is deleted.
        attempts: how often to ask, after lost connections and errors that pass.
        pause: seconds before the second attempt, doubled for each further one.

    Returns:
        ``file``.

    Raises:
        FetchError: the server refuses, the certificate is wrong, the connection fails again and again, or the checksum
            is another one.
    """
    part = Part(file.with_name(f"{file.name}.part"))
    if file.is_file():
        logger.info("%s is downloaded already", file)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        _persist(url, part, attempts, pause)
    arrived = file if file.is_file() else part.path
    try:
        check_md5(arrived, md5)
    except FetchError as error:
        arrived.unlink()
        part.discard()
        raise FetchError(f"{error}; it was deleted: run the command again, or {BY_HAND}") from None
    arrived.replace(file)
    part.discard()
    return file


def check_md5(file: Path, md5: str | None) -> None:
    """Compare a file with its published checksum, where there is one.

    Raises:
        FetchError: it is another one: the file is damaged, or not the published one.
    """
    if md5 is None:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as content:
        while block := content.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != md5:
        raise FetchError(f"the MD5 checksum of {file} must be {md5}, but is {digest.hexdigest()}")


def _persist(url: str, part: Part, attempts: int, pause: float) -> None:
    """Ask until the part is whole."""
    for attempt in range(1, attempts + 1):
        try:
            _receive(url, part)
        except (URLError, ssl.SSLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
            reason = _passing_reason(error, url)
            if attempt == attempts:
                kept = f"the {part.size} bytes received so far are kept, and the same command goes on if the server can"
                remedy = kept if part.size else f"check the connection, or {BY_HAND}"
                raise FetchError(f"{url}: {reason}; given up after {attempts} attempts; {remedy}") from error
            wait = pause * 2 ** (attempt - 1)
            logger.warning("%s: %s; asking again in %.0f s (%d of %d)", url, reason, wait, attempt + 1, attempts)
            time.sleep(wait)
        else:
            return


def _receive(url: str, part: Part) -> None:
    """One request: the rest of the part, or all of the file."""
    noted = part.version(url)
    headers = {"User-Agent": "overtile", "Accept-Encoding": "identity"}
    if noted:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": _validator(noted)}
    try:
        with build_opener(StayEncrypted).open(Request(url, headers=headers), timeout=TIMEOUT) as response:
            total = _agree(response, part, url, noted)
            with part.path.open("ab" if response.status == 206 else "wb") as output:
                _copy(response, output, part, total)
    except HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") != f"bytes */{part.size}":  # else nothing was left to send
            part.discard()
            raise _BrokenOffError("the file has become shorter at the provider's") from error


def _agree(response: http.client.HTTPResponse, part: Part, url: str, noted: dict[str, str]) -> int | None:
    """The size of the whole file, where it is stated; what arrives now continues the part, or replaces it."""
    stated = {name: response.headers[name] for name in ("ETag", "Last-Modified") if response.headers[name]}
    if response.status == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers["Content-Range"] or "")
        same = all(noted[name] == value for name, value in stated.items() if name in noted)
        if span is None or int(span[1]) != part.size or span[2] != noted.get("size", span[2]) or not same:
            part.discard()
            raise _BrokenOffError("the file has changed at the provider's, the part there is of no use")
        logger.info("going on after %.1f of %.1f MB", part.size / 1e6, int(span[2]) / 1e6)
        return int(span[2])
    if part.size:
        logger.info("the server cannot go on, or the file has changed: starting anew")
    length = response.headers["Content-Length"]
    part.discard()
    part.notes.write_text(json.dumps({"url": url, **stated, **({"size": length} if length else {})}), encoding="utf-8")
    logger.info("%s: %s", url, f"{int(length) / 1e6:.1f} MB" if length else "the server states no size")
    return int(length) if length else None


def _copy(response: http.client.HTTPResponse, output: IO[bytes], part: Part, total: int | None) -> None:
    """Write what arrives, with a progress bar if a person looks on.

    Raises:
        _BrokenOffError: it was less than announced.
    """
    start = output.seek(0, 2)
    name = part.path.name.removesuffix(".part")
    with tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name, disable=None) as bar:
        while block := response.read1(BLOCK):  # not read: a connection that is lost would take a whole block with it
            output.write(block)
            bar.update(len(block))
    if total is not None and output.tell() != total:
        raise _BrokenOffError(f"the connection ended after {output.tell()} of {total} bytes")


def _validator(noted: dict[str, str]) -> str:
    """What If-Range takes: a strong ETag, else the date; empty where there is neither (RFC 9110, 13.1.5)."""
    etag = noted.get("ETag", "")
    return noted.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag


def _passing_reason(error: Exception, url: str) -> str:
    """What went wrong, in words, where it is worth asking again.

    Raises:
        FetchError: it is not.
    """
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        raise FetchError(
            f"{url}: the server's certificate cannot be verified ({cause}); check the clock of this "
            "machine; where a company's network inspects connections, let SSL_CERT_FILE name its certificates; "
            f"or {BY_HAND}"
        ) from error
    if not isinstance(error, HTTPError):
        return f"no connection ({cause})" if isinstance(error, URLError) else str(cause) or type(cause).__name__
    if error.code in PASSING:
        return f"the server answers {error.code} {error.reason}"
    meaning = {404: "there is no such file", 410: "the file was removed", 401: "access refused", 403: "access refused"}
    raise FetchError(
        f"{url}: {meaning.get(error.code, 'the server refuses')} (HTTP {error.code} {error.reason}); the provider may "
        f"have moved it: look at its page, {BY_HAND}"
    ) from error


class StayEncrypted(HTTPRedirectHandler):
    """Follows redirections, but not from https to an address that anyone on the way can change."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        """The request to send to ``newurl``, with the headers of the first one (Range among them)."""
        if req.type == "https" and not newurl.startswith("https:"):
            raise FetchError(f"{req.full_url} redirects to {newurl}, which is not encrypted; {BY_HAND}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
