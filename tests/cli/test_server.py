"""The local web server: isolation headers, types, ranges, and nothing outside its folder."""

from __future__ import annotations

import gzip
import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import brotli
import pytest

from ruvq.cli.server import make_server

CONTENT = bytes(range(256)) * 20


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    (folder / "sub").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>page", encoding="utf-8")
    (folder / "model.gguf").write_bytes(CONTENT)
    for name in ("ruvq.wasm", "ruvq.js", "a.mjs", "a.json", "a b.txt", "empty.bin", "x.whl"):
        (folder / name).write_bytes(b"" if name == "empty.bin" else b"x")
    (folder / "sub" / "file.txt").write_bytes(b"y")
    (tmp_path / "secret.txt").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "secret.txt")
    return folder


@pytest.fixture
def port(site: Path) -> Iterator[int]:
    server = make_server(site, port=0)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def ask(
    port: int, path: str, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    response = connection.getresponse()
    out = response.status, response.headers, response.read()
    connection.close()
    return out


@pytest.mark.parametrize("path", ["/", "/model.gguf", "/nothing", "/sub/", "/sub"])
def test_every_answer_isolates_and_may_be_read_across_origins(port: int, path: str) -> None:
    _, headers, _ = ask(port, path)
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "text/html; charset=utf-8"),
        ("ruvq.wasm", "application/wasm"),
        ("ruvq.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.json", "application/json; charset=utf-8"),
        ("model.gguf", "application/octet-stream"),
        ("x.whl", "application/zip"),
        ("a%20b.txt", "text/plain; charset=utf-8"),
    ],
)
def test_types_are_what_browsers_want(port: int, name: str, kind: str) -> None:
    status, headers, _ = ask(port, f"/{name}")
    assert status == 200
    assert headers["Content-Type"] == kind


@pytest.mark.parametrize(
    ("wanted", "status", "part", "shown"),
    [
        ("bytes=0-0", 206, CONTENT[:1], "bytes 0-0/5120"),
        ("bytes=100-199", 206, CONTENT[100:200], "bytes 100-199/5120"),
        ("bytes=5000-", 206, CONTENT[5000:], "bytes 5000-5119/5120"),
        ("bytes=5000-99999", 206, CONTENT[5000:], "bytes 5000-5119/5120"),
        ("bytes=-20", 206, CONTENT[-20:], "bytes 5100-5119/5120"),
        ("bytes=-99999", 206, CONTENT, "bytes 0-5119/5120"),
        ("bytes=0-", 206, CONTENT, "bytes 0-5119/5120"),
        ("bytes=5120-", 416, None, "bytes */5120"),
        ("bytes=9-3", 416, None, "bytes */5120"),
        ("bytes=-0", 416, None, "bytes */5120"),
        ("bytes=-", 416, None, "bytes */5120"),
        ("bytes=1-2,5-6", 416, None, "bytes */5120"),
        ("pages=1", 416, None, "bytes */5120"),
    ],
)
def test_ranges_are_exact(port: int, wanted: str, status: int, part: bytes | None, shown: str) -> None:
    got, headers, body = ask(port, "/model.gguf", Range=wanted)
    assert got == status
    assert headers["Content-Range"] == shown
    assert int(headers["Content-Length"]) == len(body)
    if part is not None:
        assert body == part


def test_a_range_of_a_changed_file_gives_the_whole(port: int) -> None:
    _, headers, _ = ask(port, "/model.gguf")
    tag = headers["ETag"]
    assert ask(port, "/model.gguf", Range="bytes=0-3", If_Range=tag)[0] == 206
    status, _, body = ask(port, "/model.gguf", Range="bytes=0-3", If_Range='"other"')
    assert (status, body) == (200, CONTENT)
    assert ask(port, "/model.gguf", If_None_Match=tag)[0] == 304


def test_head_has_the_headers_alone(port: int) -> None:
    status, headers, body = ask(port, "/model.gguf", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "5120", b"")
    assert headers["Accept-Ranges"] == "bytes"
    assert ask(port, "/empty.bin")[::2] == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/sub/../../secret.txt",
        "/link",
        "//../secret.txt",
        "/%00",
        "/%ff",
        "/" + "a" * 5000,
    ],
)
def test_nothing_outside_the_folder_is_served(port: int, path: str) -> None:
    status, _, body = ask(port, path)
    assert status == 404
    assert b"secret" not in body


def test_a_folder_redirects_and_lists(port: int) -> None:
    status, headers, _ = ask(port, "/sub?x=1")
    assert (status, headers["Location"]) == (301, "/sub/?x=1")
    assert b'href="./file.txt"' in ask(port, "/sub/")[2]


def test_a_redirect_never_leaves_for_another_host(site: Path, port: int) -> None:
    (site / "evil.example").mkdir()
    assert ask(port, "//evil.example")[1]["Location"] == "/evil.example/"


def test_preflights_and_other_methods(port: int) -> None:
    status, headers, _ = ask(port, "/model.gguf", "OPTIONS")
    assert status == 204
    assert "Range" in headers["Access-Control-Allow-Headers"]
    assert ask(port, "/model.gguf", "POST", Content_Length="0")[0] == 501


def test_many_requests_are_answered_at_once(port: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(port, "/model.gguf")[2], range(40)))
    assert all(a == CONTENT for a in answers)


def test_a_taken_port_gives_way_to_the_next(site: Path, port: int) -> None:
    with make_server(site, port=port) as other:
        assert port < other.server_address[1] < port + 20
    with pytest.raises(OSError, match="in use"):
        make_server(site, port=port, tries=1)


# ---- compression ----

LONG = b"the same words again and again\n" * 400
UNPACK = {"br": brotli.decompress, "gzip": gzip.decompress}


@pytest.mark.parametrize("encoding", UNPACK)
@pytest.mark.parametrize("name", ["long.js", "long.wasm", "long.html", "long.json"])
def test_texts_and_modules_are_compressed(site: Path, port: int, name: str, encoding: str) -> None:
    (site / name).write_bytes(LONG)
    status, headers, body = ask(port, f"/{name}", Accept_Encoding=f"deflate, {encoding};q=0.5")
    assert status == 200
    assert headers["Content-Encoding"] == encoding
    assert "Accept-Encoding" in headers["Vary"]
    assert int(headers["Content-Length"]) == len(body) < len(LONG) / 4
    assert UNPACK[encoding](body) == LONG
    plain_tag = ask(port, f"/{name}")[1]["ETag"]
    assert headers["ETag"] != plain_tag
    again = ask(port, f"/{name}", Accept_Encoding=encoding, If_None_Match=headers["ETag"])
    assert (again[0], again[2]) == (304, b"")
    (site / name).write_bytes(LONG + b"more")
    changed = ask(port, f"/{name}", Accept_Encoding=encoding)[2]
    assert UNPACK[encoding](changed) == LONG + b"more"
    assert ask(port, f"/{name}", "HEAD", Accept_Encoding=encoding)[2] == b""


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("long.gguf", {"Accept_Encoding": "br, gzip"}),
        ("long.whl", {"Accept_Encoding": "br, gzip"}),
        ("long.js", {}),
        ("long.js", {"Accept_Encoding": "gzip;q=0, br;q=0"}),
        ("long.js", {"Accept_Encoding": "identity"}),
        ("long.js", {"Accept_Encoding": "br;q=x"}),
    ],
)
def test_models_and_unwilling_browsers_get_the_bytes(
    site: Path, port: int, name: str, headers: dict[str, str]
) -> None:
    (site / name).write_bytes(LONG)
    _, found, body = ask(port, f"/{name}", **headers)
    assert body == LONG
    assert "Content-Encoding" not in found


def test_a_part_is_a_part_of_the_file_itself(site: Path, port: int) -> None:
    (site / "long.js").write_bytes(LONG)
    status, headers, body = ask(port, "/long.js", Accept_Encoding="br, gzip", Range="bytes=5-9")
    assert (status, body) == (206, LONG[5:10])
    assert "Content-Encoding" not in headers


def test_compression_can_be_left_out(site: Path) -> None:
    (site / "long.js").write_bytes(LONG)
    server = make_server(site, port=0, compress=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        assert ask(server.server_address[1], "/long.js", Accept_Encoding="gzip")[2] == LONG
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
