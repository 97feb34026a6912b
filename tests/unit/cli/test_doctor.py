"""`broker doctor` as a command: what it prints, how it ends."""

import pytest
from unit.config.conftest import Site

from broker.cli.offline import doctor
from broker.doctor.findings import AS_ROOT, Check, fail, ok, skipped, warn

FOUND = {
    "daemon": [ok("daemon", "answers")],
    "overlay": [fail("interface broker0", "is down \x1b[31m" + "and so on " * 12, "ip link set broker0 up"), ok("names", "all")],
    "providers": [warn("limits", "nothing bounds it", "max_nodes = 8"), skipped("clock", "may not be seen", AS_ROOT)],
}  # fmt: skip


@pytest.fixture
def site(tmp_path, monkeypatch):
    site = Site(tmp_path)
    site.path.write_text(site.text)
    monkeypatch.setenv("BROKER_CONFIG", str(site.path))
    monkeypatch.setattr(doctor, "Client", _Dead)
    return site


class _Dead:
    def __init__(self, path, timeout):
        self._path = path

    def get(self, *parts):
        raise doctor.BrokerError(f"no daemon answers on {self._path}; start it")


@pytest.fixture
def findings(monkeypatch):
    """What the checks will find."""
    found = {}

    def checks(settings, slurm_site, scripts, daemon, book, now):
        return [
            Check(section=section, name=section, look=lambda each=each: each(daemon) if callable(each) else each)
            for section, each in found.items()
        ]

    monkeypatch.setattr(doctor.controller, "checks", checks)
    return found


def test_what_is_broken_comes_first_with_its_mend_and_no_line_is_wider_than_a_hundred(site, findings, broker):
    findings.update(FOUND)

    done = broker("doctor")

    lines = done.out.splitlines()
    assert done.code == 1
    assert lines[0].startswith("FAIL  interface broker0")
    assert "      mend: ip link set broker0 up" in lines
    assert lines.index("      mend: max_nodes = 8") < lines.index("daemon")
    assert "1 broken, 1 to look at, 2 well, 1 not looked at" in lines
    assert "run it as root" in lines[-1]
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in done.out


def test_json_has_every_finding_and_its_summary(site, findings, broker):
    findings.update(FOUND)

    done = broker("doctor", "--json")

    assert done.code == 1
    assert done.json["schema_version"] == 1
    assert done.json["summary"] == {"ok": 2, "warn": 1, "fail": 1, "skipped": 1}
    assert [each["status"] for each in done.json["findings"]] == ["ok", "fail", "ok", "warn", "skipped"]
    assert done.json["findings"][3] == {
        "section": "providers",
        "name": "limits",
        "status": "warn",
        "seen": "nothing bounds it",
        "mend": "max_nodes = 8",
    }


def test_warnings_alone_are_no_failure(site, findings, broker):
    findings["s"] = [warn("limits", "nothing bounds it", "max_nodes = 8")]

    assert broker("doctor").code == 0


def test_a_dead_daemon_is_said_and_the_rest_is_looked_at(site, findings, broker):
    findings["daemon"] = lambda daemon: [fail("daemon", daemon.silence, "systemctl start broker")]
    findings["other"] = [ok("other", "well")]

    done = broker("doctor")

    assert done.code == 1
    assert "no daemon answers on" in " ".join(done.out.split())
    assert "ok    other" in done.out


def test_a_wrong_configuration_is_all_that_can_be_told(site, broker):
    site.path.write_text(site.change("max_nodes = 8", "max_node = 8").text)

    done = broker("doctor")

    assert done.code == 1
    assert "limits.max_node" in done.out
    assert "mend: in" in done.out
    assert "1 broken" in done.out


def test_a_node_that_is_none_or_has_no_machine_is_not_found(site, broker, tmp_path):
    state = tmp_path / "state"
    site.path.write_text(site.change("[site]", f'[site]\nstate_dir = "{state}"').text)

    assert broker("doctor", "--node", "h100-9").code == 4
    without = broker("doctor", "--node", "h100-1")
    assert without.code == 1
    assert "broker.db is not there" in without.err
