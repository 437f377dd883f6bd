"""The files that people start from: what reads them for real has nothing to say against them."""

import argparse
import configparser
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from invalidator import cli
from invalidator.ledger.file import default_path
from invalidator.sidecar.service import SERVICE_FILES, Options, service_file

SCRIPT = Path(sys.executable).with_name("invalidator")
MOST_EXPOSED = 1.7
"""Of 10, as systemd-analyze counts; what is left is a network and a group that reads what we write."""


@pytest.mark.parametrize("name", SERVICE_FILES)
def test_is_printed_by_the_command_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sidecar", "--print", name]) == 0
    assert capsys.readouterr().out == service_file(name)


class TestSystemd:
    @pytest.fixture
    def unit(self, tmp_path: Path) -> Path:
        """With the script where it is here: systemd-analyze looks whether it is there."""
        path = tmp_path / SERVICE_FILES["systemd"]
        path.write_text(service_file("systemd").replace("/usr/local/bin/invalidator", str(SCRIPT)))
        return path

    def test_systemd_has_nothing_against_it(self, unit: Path) -> None:
        """An unknown directive is a warning and no failure: neither is taken. Debian's package systemd has the tool."""
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_it_is_locked_in(self, unit: Path) -> None:
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED * 10:.0f}", unit],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def test_nothing_hides_what_workers_compare(self) -> None:
        """ProcSubset=pid hides the boot's id from the sidecar, and every worker would refuse its ledger."""
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment]
        parser.read_string(service_file("systemd"))
        service = parser["Service"]
        assert "ProcSubset" not in service
        assert "PrivateUsers" not in service
        assert service["RuntimeDirectoryPreserve"] == "yes"

    def test_its_command_is_understood(self) -> None:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.read_string(service_file("systemd"))
        assert options_of(parser["Service"]["ExecStart"].split()[1:]).http == "unix:/run/invalidator/http.sock"


class TestKubernetes:
    @pytest.fixture
    def pod(self) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load(service_file("kubernetes"))
        pod: dict[str, Any] = document["spec"]["template"]["spec"]
        return pod

    @pytest.mark.parametrize("version", ["1.29", "1.37"])
    def test_it_fits_the_schema(self, version: str) -> None:
        """Strictly: an unknown field is an error. 1.29 is the first with native sidecars, without a feature gate."""
        kubernetes_validate.validate(yaml.safe_load(service_file("kubernetes")), version, strict=True)

    def test_the_sidecar_lives_as_long_as_the_app(self, pod: dict[str, Any]) -> None:
        (sidecar,) = pod["initContainers"]
        assert sidecar["restartPolicy"] == "Always"

    def test_the_ledger_is_memory_that_the_app_only_reads(self, pod: dict[str, Any]) -> None:
        (volume,) = pod["volumes"]
        assert volume["emptyDir"]["medium"] == "Memory"
        (sidecar,), (app,) = pod["initContainers"], pod["containers"]
        (written,), (read,) = sidecar["volumeMounts"], app["volumeMounts"]
        assert not written.get("readOnly")
        assert read["readOnly"] is True
        assert written["name"] == read["name"] == volume["name"]
        (path,) = [each["value"] for each in app["env"] if each["name"] == "INVALIDATOR_SIDECAR"]
        options = options_of([*sidecar["command"][1:], *sidecar["args"]])
        assert options.paths() == {"shop": Path(path)}

    def test_nobody_may_do_more_than_is_needed(self, pod: dict[str, Any]) -> None:
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in [*pod["initContainers"], *pod["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]

    def test_a_redis_that_is_away_stops_no_pod(self, pod: dict[str, Any]) -> None:
        """/readyz is for alerts: as a probe it would take every pod out of service at once."""
        (sidecar,) = pod["initContainers"]
        probes = [sidecar[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")]
        assert probes == ["/livez"] * 3


class TestCompose:
    def test_it_fits_the_specification(self) -> None:
        services = PyCompose.from_yaml(service_file("compose")).service_names()
        assert services == ["redis", "sidecar", "app"]

    def test_the_app_reads_the_ledger_that_the_sidecar_writes(self) -> None:
        services = yaml.safe_load(service_file("compose"))["services"]
        options = options_of(services["sidecar"]["command"][1:])
        assert options.paths() == {"shop": Path(services["app"]["environment"]["INVALIDATOR_SIDECAR"])}
        assert services["app"]["volumes"] == ["ledger:/run/invalidator:ro"]


def options_of(command: list[str]) -> Options:
    """What `invalidator` makes of a command line: none of its options may be gone or renamed."""
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser, url="redis://redis", namespace="shop")
    parsed = parser.parse_args(command)
    assert parsed.subcommand == "sidecar"
    names = ("path", "directory", "slots", "max_staleness", "http", "http_any", "log_file", "log_format")
    options = Options(url=parsed.url, namespaces=[parsed.namespace], **{name: getattr(parsed, name) for name in names})
    assert all(path.name == default_path(name).name for name, path in options.paths().items())
    return options
