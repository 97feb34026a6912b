"""Looking at real files, programs and sockets of this host."""

import os
import socket
import threading
import time

import pytest
from unit.doctor import made

from broker.config import Secret
from broker.core.errors import BrokerError
from broker.db.engine import open_ledger
from broker.doctor import ledger, node, overlay, place, site
from broker.doctor.findings import AS_ROOT, Check, Status, Unseen, examine, ok
from broker.doctor.ledger import Ledger


def raising(error):
    def look():
        raise error

    return Check(section="s", name="n", look=look)


@pytest.mark.parametrize(
    ("error", "status", "seen", "mend"),
    [
        (PermissionError(13, "denied", "/secret"), Status.SKIPPED, "/secret may not be looked at", AS_ROOT),
        (Unseen("the ledger cannot be read"), Status.SKIPPED, "the ledger cannot be read", None),
        (BrokerError("slurm.conf names itself"), Status.FAIL, "slurm.conf names itself", "the message says it"),
        (ZeroDivisionError("by zero"), Status.FAIL, "ZeroDivisionError: by zero", "a bug of broker"),
    ],
)
def test_a_check_that_cannot_look_is_a_finding_and_the_others_go_on(error, status, seen, mend):
    well = Check(section="s", name="other", look=lambda: [ok("other", "well")])

    first, second = examine([raising(error), well])

    assert (first.status, second.status) == (status, Status.OK)
    assert first.section == "s"
    assert seen in first.seen
    assert first.mend is None if mend is None else mend in first.mend


def test_files_are_seen_as_what_they_are(tmp_path):
    os.mkfifo(tmp_path / "knock")
    (tmp_path / "knock").chmod(0o620)
    (tmp_path / "link").symlink_to("knock")

    assert place.entry(tmp_path / "nothing") is None
    assert place.entry(tmp_path).kind == "folder"
    assert (place.entry(tmp_path / "link").kind, place.entry(tmp_path / "link").mode) == ("FIFO", 0o620)


def test_a_fifo_has_a_reader_or_none(tmp_path):
    knock = tmp_path / "knock"
    assert site._reader(knock) is None
    os.mkfifo(knock)
    assert site._reader(knock) is False
    reader = os.open(knock, os.O_RDWR)
    try:
        assert site._reader(knock) is True
    finally:
        os.close(reader)


def test_programs_that_are_missing_or_silent_are_told_apart():
    assert place.run(["no-such-program"]).code == place.NOT_INSTALLED
    assert place.run(["sh", "-c", "exec sleep 60"], timeout=0.05).code == place.NO_ANSWER
    spoke = place.run(["sh", "-c", "cat; echo oh >&2; exit 3"], stdin="in")
    assert (spoke.code, spoke.out, spoke.said) == (3, "in", "oh")


def test_the_process_behind_a_socket_and_its_start_are_found(tmp_path):
    path = tmp_path / "api.sock"
    assert place.server_of(path) is None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert place.server_of(path) is None
        server.listen()
        assert place.server_of(path) == os.getpid()
    assert 0 < time.time() - place.started_at(os.getpid()) < 24 * 3600


def test_an_open_a_closed_and_a_deaf_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert place.refusal("127.0.0.1", port) is None
    assert place.refusal("127.0.0.1", port) == "Connection refused"


def test_a_datagram_that_is_refused_has_arrived_and_one_that_is_too_large_has_not():
    assert overlay.path_loss("127.0.0.1", 1380) is None
    assert overlay.path_loss("127.0.0.1", 66000) == "Message too long"


def test_the_listener_takes_a_free_port_of_srun_s_range():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        low = taken.getsockname()[1]
        with node._Listener(f"{low}-{low}") as full:
            assert full.port is None
        with node._Listener(f"{low}-{low + 50}") as listener:
            assert low < listener.port <= low + 50
            assert place.refusal("127.0.0.1", listener.port) is None
        assert place.refusal("127.0.0.1", listener.port) == "Connection refused"
    with node._Listener(None) as none:
        assert none.port is None


def test_what_is_no_ssh_server_has_no_host_key():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert overlay._host_key("127.0.0.1", server.getsockname()[1]) is None
        thread.join()


def test_a_ledger_is_read_beside_its_daemon_and_never_made(tmp_path):
    book = Ledger(f"sqlite:///{tmp_path}/broker.db")
    with pytest.raises(Unseen, match="the daemon makes it"):
        book.living()
    assert list(tmp_path.iterdir()) == []
    (missing,) = ledger.check(book, False).look()
    assert missing.status is Status.FAIL

    engine = open_ledger(str(book.where))
    assert book.living() == []
    assert book.holding("h100-1") is None
    (found,) = ledger.check(book, True).look()
    engine.dispose()

    assert found.status is Status.OK, found


def test_a_file_that_is_no_ledger_is_not_taken_for_an_empty_one(tmp_path):
    book = Ledger(f"sqlite:///{tmp_path}/broker.db")
    (tmp_path / "broker.db").write_bytes(b"not a database, and long enough to be seen as none " * 40)

    (found,) = ledger.check(book, False).look()

    assert found.status is Status.FAIL
    assert "not a database" in found.seen


def test_a_server_that_is_away_is_said_with_how_to_ask_it_and_without_its_password():
    pytest.importorskip("psycopg")
    book = Ledger("postgresql+psycopg://broker@127.0.0.1:1/ledger", Secret("hunter2"))

    (found,) = ledger.check(book, False).look()

    assert found.status is Status.FAIL
    assert "127.0.0.1:1/ledger cannot be read" in found.seen
    assert "setpriv --reuid=broker" in found.mend
    assert "hunter2" not in found.seen + repr(book.where)


def test_every_folder_of_ours_is_wanted_as_the_installation_makes_it():
    wanted = {str(want.path): want for want in site.wants(made.settings(), "slurm")}

    assert set(wanted) == {
        "/etc/broker/broker.toml",
        "/var/lib/broker",
        "/run/broker",
        "/var/spool/broker",
        "/var/spool/broker/intents",
        "/var/spool/broker/jobs",
        "/var/spool/broker/knock",
    }
    assert (wanted["/var/spool/broker/jobs"].owner, wanted["/var/spool/broker/jobs"].mode) == ("slurm", 0o2770)
    assert place.primary_group("root") == "root"
    assert place.primary_group("no-such-user") == "no-such-user"
