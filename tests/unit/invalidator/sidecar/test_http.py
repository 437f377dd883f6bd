"""The sidecar's HTTP, in this process, about somebody who says what the test wants."""

import http.client
import json
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from invalidator.errors import InvalidSetting
from invalidator.sidecar import http as sidecar_http
from invalidator.sidecar.daemon import Health
from invalidator.sidecar.http import HttpError, HttpServer, TcpAddress, UnixAddress, parse_address
from tests.unit.invalidator.sidecar.support import HEALTH

SHOP = replace(HEALTH, refused={"malformed": 6})


class Subject:
    def __init__(self) -> None:
        self.alive = True
        self.missing: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def is_alive(self) -> bool:
        self.may_answer.wait()
        return self.alive

    def why_not_ready(self) -> list[str]:
        return self.missing

    def status(self) -> dict[str, Any]:
        return {"ready": True, "namespaces": [SHOP.as_dict()]}

    def health(self) -> list[Health]:
        return [SHOP]


@pytest.fixture
def subject() -> Iterator[Subject]:
    subject = Subject()
    yield subject
    subject.may_answer.set()


@pytest.fixture
def server(subject: Subject) -> Iterator[HttpServer]:
    with HttpServer(TcpAddress("127.0.0.1", 0), subject) as server:
        yield server


def connect(server: HttpServer) -> socket.socket:
    assert isinstance(server.address, TcpAddress)
    return socket.create_connection((server.address.host, server.address.port), timeout=30)


def say(server: HttpServer, request: bytes) -> bytes:
    """Send *request*, and return everything that is answered."""
    with connect(server) as connection, connection.makefile("rb") as answer:
        connection.sendall(request)
        return answer.read()


def ask(server: HttpServer, path: str, method: str = "GET") -> tuple[int, str, str]:
    """Status code, content type, body."""
    assert isinstance(server.address, TcpAddress)
    connection = http.client.HTTPConnection(server.address.host, server.address.port, timeout=30)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, response.getheader("Content-Type", ""), body


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("off", None),
            ("127.0.0.1:9187", TcpAddress("127.0.0.1", 9187)),
            ("localhost:9187", TcpAddress("127.0.0.1", 9187)),
            ("127.9.9.9:0", TcpAddress("127.9.9.9", 0)),
            ("[::1]:9187", TcpAddress("::1", 9187)),
            ("unix:/run/invalidator/http.sock", UnixAddress(Path("/run/invalidator/http.sock"))),
        ],
    )
    def test_can_be_read(self, text: str, address: object) -> None:
        assert parse_address(text) == address
        assert address is None or "localhost" in text or str(address) == text

    @pytest.mark.parametrize(
        "text",
        [
            *("", "on", "9187", ":9187", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536"),
            *("shop.example:80", "unix:", "unix:relative", f"unix:/{'x' * 100}"),
        ],
    )
    def test_says_what_can_be_read(self, text: str) -> None:
        with pytest.raises(InvalidSetting, match="http must"):
            parse_address(text)

    @pytest.mark.parametrize("text", ["0.0.0.0:9187", "10.0.0.1:9187", "[::]:9187"])
    def test_other_hosts_are_let_in_only_if_that_is_meant(self, text: str) -> None:
        with pytest.raises(InvalidSetting, match="--http-any"):
            parse_address(text)
        assert str(parse_address(text, anywhere=True)) == text


class TestAnswers:
    def test_alive(self, server: HttpServer, subject: Subject) -> None:
        assert ask(server, "/livez")[::2] == (200, "alive\n")
        subject.alive = False
        assert ask(server, "/livez")[0] == 503

    def test_ready_or_the_reasons_why_not(self, server: HttpServer, subject: Subject) -> None:
        assert ask(server, "/readyz")[::2] == (200, "ready\n")
        subject.missing = ["shop: no lease", "blog: no lease"]
        assert ask(server, "/readyz?verbose")[::2] == (503, "shop: no lease\nblog: no lease\n")

    def test_status_is_json(self, server: HttpServer) -> None:
        code, content_type, body = ask(server, "/status")
        assert (code, content_type) == (200, "application/json")
        assert json.loads(body)["namespaces"][0]["position"] == "7-0"

    def test_metrics_are_what_prometheus_reads(self, server: HttpServer) -> None:
        code, content_type, body = ask(server, "/metrics")
        assert code == 200
        assert content_type.startswith("text/plain; version=")
        lines = body.splitlines()
        for line in (
            'invalidator_sidecar_leased{namespace="shop"} 1.0',
            'invalidator_sidecar_flushes_total{namespace="shop"} 1.0',
            'invalidator_sidecar_names_applied_total{namespace="shop"} 5.0',
            'invalidator_sidecar_messages_refused_total{namespace="shop",reason="malformed"} 6.0',
            'invalidator_sidecar_state{namespace="shop",state="live"} 1.0',
            'invalidator_sidecar_state{namespace="shop",state="connecting"} 0.0',
        ):
            assert line in lines
        assert "process_cpu_seconds_total" in body

    def test_without_the_extra_metrics_say_what_to_install(
        self, server: HttpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        code, _, body = ask(server, "/metrics")
        assert code == 501
        assert "invalidator[prometheus]" in body
        assert ask(server, "/livez")[0] == 200

    def test_whoever_is_lost_is_shown_the_way(self, server: HttpServer) -> None:
        code, _, body = ask(server, "/")
        assert code == 404
        assert "/status" in body

    def test_head_is_get_without_a_body(self, server: HttpServer) -> None:
        assert ask(server, "/livez", "HEAD")[::2] == (200, "")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    def test_nothing_can_be_changed(self, method: str, server: HttpServer) -> None:
        assert ask(server, "/livez", method)[0] == 501

    def test_it_does_not_say_what_it_is_made_of(self, server: HttpServer) -> None:
        assert b"Server: invalidator\r\n" in say(server, b"GET /livez HTTP/1.0\r\n\r\n")


class TestLimits:
    """Nobody who asks can hold up the daemon."""

    def test_a_request_is_small(self, server: HttpServer) -> None:
        with connect(server) as connection, connection.makefile("rb") as answer:
            connection.sendall(b"GET /livez HTTP/1.0\r\n" + b"X: y\r\n" * 2000)
            assert answer.readline().startswith(b"HTTP/1.0 431 ")

    def test_a_request_is_short(self, server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """However slowly it drips: the time is that of the whole request."""
        monkeypatch.setattr(sidecar_http, "REQUEST_TIMEOUT_S", 0.05)
        assert say(server, b"GET /livez HTTP/1.0\r\nX: ") == b""

    def test_a_request_that_ends_early_is_not_answered(self, server: HttpServer) -> None:
        with connect(server) as connection:
            connection.sendall(b"GET /livez HTTP/1.0\r\n")
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""

    @pytest.mark.parametrize("request_", [b"\r\n\r\n", b"\xff\xfe\n\n", b"GET\n\n", b"GET / HTTP/9.9\r\n\r\n"])
    def test_nonsense_ends_nothing(self, request_: bytes, server: HttpServer) -> None:
        say(server, request_)
        assert ask(server, "/livez")[0] == 200

    def test_who_comes_on_top_is_hung_up_on(self, server: HttpServer, subject: Subject) -> None:
        subject.may_answer.clear()
        waiting = [connect(server) for _ in range(sidecar_http.REQUESTS_AT_ONCE)]
        for connection in waiting:
            connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert connect_and_wait(server) == b""
        subject.may_answer.set()
        for connection in waiting:
            with connection, connection.makefile("rb") as answer:
                assert b"200" in answer.readline()
        while say(server, b"GET /livez HTTP/1.0\r\n\r\n") == b"":
            pass  # the last of them is just leaving


def connect_and_wait(server: HttpServer) -> bytes:
    with connect(server) as connection:
        return connection.recv(1)


class TestPlaces:
    def test_a_port_that_is_taken_is_an_error(self, server: HttpServer, subject: Subject) -> None:
        with pytest.raises(HttpError, match="Address already in use"):
            HttpServer(server.address, subject)

    def test_a_unix_socket_is_left_behind_by_nobody(self, tmp_path: Path, subject: Subject) -> None:
        path = tmp_path / "http.sock"
        with HttpServer(UnixAddress(path), subject), socket.socket(socket.AF_UNIX) as connection:
            assert path.stat().st_mode & 0o777 == sidecar_http.SOCKET_MODE
            connection.connect(str(path))
            connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.0 200 ")
        assert list(tmp_path.iterdir()) == []

    def test_a_socket_of_the_dead_is_replaced(self, tmp_path: Path, subject: Subject) -> None:
        """kill -9 leaves it there."""
        path = tmp_path / "http.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with HttpServer(UnixAddress(path), subject):
            pass

    def test_a_socket_of_the_living_is_not(self, tmp_path: Path, subject: Subject) -> None:
        address = UnixAddress(tmp_path / "http.sock")
        with HttpServer(address, subject):
            with pytest.raises(HttpError, match="another process does"):
                HttpServer(address, subject)
            assert address.path.exists()

    def test_what_is_no_socket_is_left_alone(self, tmp_path: Path, subject: Subject) -> None:
        path = tmp_path / "precious"
        path.write_text("data")
        with pytest.raises(HttpError, match="no socket"):
            HttpServer(UnixAddress(path), subject)
        assert path.read_text() == "data"
