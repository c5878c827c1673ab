"""Downloads from a server of this machine that can do all that servers do: cut off, forget, change, refuse."""

import hashlib
import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import URLError
from urllib.request import Request

import numpy as np
import pytest

from overtile.data import FetchError, fetching
from overtile.data.fetching import StayEncrypted, fetch

CONTENT = np.random.default_rng(0).bytes(600_000)
CHANGED = np.random.default_rng(1).bytes(600_000)


class Handler(BaseHTTPRequestHandler):
    """Answers as its server's attributes say."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        if server.answers:
            status = server.answers.pop(0)
            if status != 200:
                self.send_error(status)
                return
        content, start = server.content, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        same = condition in (None, server.etag, server.modified) or not server.heeds_condition
        if wanted and server.ranges and same:
            start = int(wanted[1]) - server.shift
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif server.states_size:
            self.send_header("Content-Length", str(len(content) - start))
        for name, value in (("ETag", server.etag), ("Last-Modified", server.modified)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        sent = content[start:] if cut is None else content[start : start + cut]
        if server.chunked:
            sent = b"%x\r\n" % len(sent) + sent + b"\r\n" + (b"0\r\n\r\n" if cut is None else b"")
        self.wfile.write(sent)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # a client that hangs up is what is tested
    server.content, server.etag, server.modified = CONTENT, '"one"', None
    server.ranges = server.heeds_condition = server.states_size = True
    server.chunked, server.shift = False, 0
    server.answers, server.cuts, server.requests = [], [], []
    server.url = f"http://127.0.0.1:{server.server_port}/cells.zip"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def get(server, file, **options):
    return fetch(server.url, file, pause=0, **options)


def ranges(server):
    return [request.get("Range") for request in server.requests]


def test_a_file_arrives_whole_and_nothing_else_is_left(server, tmp_path):
    file = get(server, tmp_path / "new" / "cells.zip", md5=hashlib.md5(CONTENT).hexdigest())
    assert file.read_bytes() == CONTENT
    assert [path.name for path in file.parent.iterdir()] == ["cells.zip"]
    assert server.requests[0]["Accept-Encoding"] == "identity"


def test_a_file_that_is_there_is_not_asked_for_again(server, tmp_path):
    (tmp_path / "cells.zip").write_bytes(b"mine")
    assert get(server, tmp_path / "cells.zip").read_bytes() == b"mine"
    assert server.requests == []


def test_a_server_that_states_no_size_is_read_to_the_end(server, tmp_path):
    server.states_size = False
    assert get(server, tmp_path / "cells.zip").read_bytes() == CONTENT


def test_a_transfer_in_chunks_that_breaks_off_is_not_taken_for_the_whole(server, tmp_path):
    """As GitHub sends archives that it makes while sending: of no stated size."""
    server.chunked, server.ranges, server.cuts = True, False, [100_000]
    assert get(server, tmp_path / "cells.zip").read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("etag", "modified", "condition"),
    [
        ('"one"', None, '"one"'),
        (None, "Sat, 01 Jan 2022 00:00:00 GMT", "Sat, 01 Jan 2022 00:00:00 GMT"),
        ('W/"one"', "Sat, 01 Jan 2022 00:00:00 GMT", "Sat, 01 Jan 2022 00:00:00 GMT"),
    ],
    ids=["etag", "date", "weak etag and date"],
)
def test_a_lost_connection_is_taken_up_where_it_ended(server, tmp_path, etag, modified, condition):
    server.etag, server.modified, server.cuts = etag, modified, [100_000, 200_000]
    assert get(server, tmp_path / "cells.zip").read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=100000-", "bytes=300000-"]
    assert server.requests[1]["If-Range"] == condition


def test_the_next_call_goes_on_with_what_an_interrupted_one_left(server, tmp_path):
    server.cuts = [100_000]
    with pytest.raises(FetchError, match=r"ended after 100000 of 600000 bytes.* the 100000 bytes .* are kept"):
        get(server, tmp_path / "cells.zip", attempts=1)
    assert (tmp_path / "cells.zip.part").read_bytes() == CONTENT[:100_000]
    assert not (tmp_path / "cells.zip").exists()
    assert get(server, tmp_path / "cells.zip").read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=100000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["cells.zip"]


def test_ctrl_c_keeps_the_part(server, tmp_path, monkeypatch):
    class Impatient(fetching.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "tqdm", Impatient)
        with pytest.raises(KeyboardInterrupt):
            get(server, tmp_path / "cells.zip")
    kept = (tmp_path / "cells.zip.part").stat().st_size
    assert 0 < kept < len(CONTENT)
    assert get(server, tmp_path / "cells.zip").read_bytes() == CONTENT
    assert ranges(server)[-1] == f"bytes={kept}-"


@pytest.mark.parametrize("lacking", ["ranges", "validators"])
def test_a_server_that_cannot_go_on_begins_anew(server, tmp_path, lacking):
    server.cuts = [100_000]
    if lacking == "ranges":
        server.ranges = False
    else:
        server.etag = None
    assert get(server, tmp_path / "cells.zip").read_bytes() == CONTENT
    assert ranges(server)[1] == ("bytes=100000-" if lacking == "ranges" else None)


@pytest.mark.parametrize("heeds_condition", [True, False], ids=["as the standard says", "server without If-Range"])
@pytest.mark.parametrize("content", [CHANGED, CHANGED[:50_000], CHANGED * 2], ids=["equal", "shorter", "longer"])
def test_two_versions_of_a_file_are_never_glued_together(server, tmp_path, heeds_condition, content):
    server.cuts = [100_000]
    with pytest.raises(FetchError):
        get(server, tmp_path / "cells.zip", attempts=1)
    server.content, server.etag, server.heeds_condition = content, '"two"', heeds_condition
    assert get(server, tmp_path / "cells.zip").read_bytes() == content


@pytest.mark.parametrize("flaw", ["place", "size"])
def test_a_continuation_that_does_not_fit_is_not_appended(server, tmp_path, flaw):
    """From servers that send another range than was asked for, or change a file and not its ETag."""
    server.cuts = [100_000]
    with pytest.raises(FetchError):
        get(server, tmp_path / "cells.zip", attempts=1)
    if flaw == "place":
        server.shift = 7
    else:
        server.content = CHANGED * 2
    assert get(server, tmp_path / "cells.zip").read_bytes() == server.content
    assert ranges(server) == [None, "bytes=100000-", None]


def test_a_part_of_another_address_is_not_continued(server, tmp_path):
    (tmp_path / "cells.zip.part").write_bytes(CHANGED[:1000])
    noted = {"url": "http://127.0.0.1/other.zip", "ETag": '"one"', "size": "600000"}
    (tmp_path / "cells.zip.part.json").write_text(json.dumps(noted))
    assert get(server, tmp_path / "cells.zip").read_bytes() == CONTENT
    assert ranges(server) == [None]


def test_a_part_that_was_whole_already_is_taken(server, tmp_path):
    (tmp_path / "cells.zip.part").write_bytes(CONTENT)
    (tmp_path / "cells.zip.part.json").write_text(json.dumps({"url": server.url, "ETag": '"one"', "size": "600000"}))
    assert get(server, tmp_path / "cells.zip").read_bytes() == CONTENT
    assert ranges(server) == ["bytes=600000-"]


def test_notes_that_were_cut_off_are_no_obstacle(server, tmp_path):
    (tmp_path / "cells.zip.part").write_bytes(CHANGED[:1000])
    (tmp_path / "cells.zip.part.json").write_text('{"url": "http')
    assert get(server, tmp_path / "cells.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("there", [False, True], ids=["downloaded", "there before"])
def test_a_wrong_checksum_deletes_the_file_and_says_what_to_do(server, tmp_path, there):
    if there:
        (tmp_path / "cells.zip").write_bytes(CONTENT)
    with pytest.raises(
        FetchError, match=f"must be 0123, but is {hashlib.md5(CONTENT).hexdigest()}; it was deleted: run"
    ):
        get(server, tmp_path / "cells.zip", md5="0123")
    assert list(tmp_path.iterdir()) == []


def test_errors_that_pass_are_waited_for(server, tmp_path, caplog):
    server.answers = [503, 429]
    assert get(server, tmp_path / "cells.zip").read_bytes() == CONTENT
    assert "the server answers 503" in caplog.text
    assert "(3 of 5)" in caplog.text


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "there is no such file"), (403, "access refused"), (418, "the server refuses")],
)
def test_errors_that_stay_are_explained_at_once(server, tmp_path, status, message):
    server.answers = [status] * 5
    with pytest.raises(FetchError, match=rf"{message} \(HTTP {status} .* look at its page, .* --archive"):
        get(server, tmp_path / "cells.zip")
    assert len(server.requests) == 1


def test_a_server_that_does_not_answer_is_asked_a_few_times(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(
        FetchError, match=r"no connection \(.*refused\); given up after 3 attempts; check the connection, or"
    ):
        get(server, tmp_path / "cells.zip", attempts=3)


def test_a_wrong_certificate_is_explained_and_never_accepted(server, tmp_path, monkeypatch):
    def refuse(*_):
        raise URLError(ssl.SSLCertVerificationError(1, "certificate verify failed"))

    monkeypatch.setattr(fetching, "_receive", refuse)
    with pytest.raises(FetchError, match=r"certificate cannot be verified .* clock .* SSL_CERT_FILE .* --archive"):
        get(server, tmp_path / "cells.zip")


def test_a_redirection_may_not_leave_encryption():
    follow = StayEncrypted().redirect_request
    request = Request("https://host/cells.zip", headers={"Range": "bytes=5-"})
    followed = follow(request, None, 302, "Found", {}, "https://other/cells.zip")
    assert (followed.full_url, followed.get_header("Range")) == ("https://other/cells.zip", "bytes=5-")
    with pytest.raises(FetchError, match=r"redirects to http://other/cells\.zip, which is not encrypted"):
        follow(request, None, 302, "Found", {}, "http://other/cells.zip")
