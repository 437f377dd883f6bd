"""The rights of a user, on a real server: the least that are needed, less one."""

import pytest

from invalidator import Invalidator
from invalidator.config import Config
from invalidator.doctor import Finding, examine
from invalidator.doctor.questions import SCRIPT_COMMANDS
from invalidator.doctor.server import HELPFUL, acl_command
from invalidator.testing import EmbeddedServer

CONFIG = Config(namespace="shop")


class TestRights:
    """On a real server, with a user who has the least rights, less one."""

    @pytest.fixture
    def user(self, own_server: EmbeddedServer) -> str:
        words = acl_command("worker", "shop").split()
        own_server.command(*words, "on", ">secret")
        return own_server.url.replace("redis://", "redis://worker:secret@")

    def rights(self, url: str) -> Finding:
        (finding,) = [found for found in examine(url, CONFIG) if found.check == "rights"]
        return finding

    def test_the_least_are_enough(self, user: str) -> None:
        assert self.rights(user).level == "ok"
        with Invalidator(user, namespace="shop", publish="raise") as bus:
            assert bus.wait_until_leased(timeout=60)
            assert bus.invalidate("product:42").accepted

    @pytest.mark.parametrize("command", [*SCRIPT_COMMANDS, "get", "xrange", "zrange", "eval", "evalsha"])
    def test_each_that_is_missing_is_named(self, command: str, user: str, own_server: EmbeddedServer) -> None:
        own_server.command("ACL", "SETUSER", "worker", f"-{command}")
        finding = self.rights(user)
        assert finding.level == "fail"
        assert command in finding.found
        # What it says to do is what has to be done.
        own_server.command(*finding.repair.split())
        assert self.rights(user).level == "ok"

    @pytest.mark.parametrize("what", ["-subscribe", "-script", "resetchannels", "resetkeys"])
    def test_so_are_channels_and_keys(self, what: str, user: str, own_server: EmbeddedServer) -> None:
        own_server.command("ACL", "SETUSER", "worker", what)
        finding = self.rights(user)
        assert finding.level == "fail"
        own_server.command(*finding.repair.split())
        assert self.rights(user).level == "ok"

    @pytest.mark.parametrize("command", HELPFUL)
    def test_what_we_can_do_without_is_a_warning(self, command: str, user: str, own_server: EmbeddedServer) -> None:
        own_server.command("ACL", "SETUSER", "worker", f"-{command}")
        finding = self.rights(user)
        assert (finding.level, finding.means) == ("warn", HELPFUL[command])

    def test_a_wrong_password_is_told(self, user: str) -> None:
        *_, finding = examine(user.replace("secret", "wrong"), CONFIG)
        assert (finding.check, finding.level) == ("reachable", "fail")
        assert "redis://user:password@" in finding.repair
