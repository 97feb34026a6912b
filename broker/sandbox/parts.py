"""The sandbox's daemons: where each runs, as whom, with what rights, and how it shows that it is ready."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.sandbox.layout import Layout
from broker.templating import shipped

Inside = Callable[[str, Sequence[str]], bool]
"""Runs a program on a host; whether it ended well."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A daemon of the sandbox: where it runs, as what, and how it shows that it is ready."""

    name: str
    host: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    user: str | None = None
    capabilities: str | None = None
    """None: as the user has them; else the only ones left (`-all`, or `-all,+net_admin`)."""
    network: bool = True

    def command(self) -> list[str]:
        """The part's program with its user and capabilities, to be run inside its host."""
        words: list[str] = []
        if not self.network:
            words += ["unshare", "--net", "--"]
        if self.user is not None or self.capabilities is not None:
            words += ["setpriv", "--no-new-privs"]
            if self.user is not None:
                words += [f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"]
            if self.capabilities is not None:
                bounds = self.capabilities
                words += [f"--bounding-set={bounds}", f"--inh-caps={bounds}", f"--ambient-caps={bounds}"]
        return [*words, *self.argv]


def controller_parts(where: Layout, checkout: Path, inside: Inside, postgres: Path | None = None) -> list[Part]:
    """The daemons of the login host, in the order in which they need one another.

    `postgres`: the folder of PostgreSQL's programs, None: the ledger lies in SQLite.
    """
    run, python = where.run, str(checkout / ".venv" / "bin" / "python")
    database = str(where.directory / "mariadb")
    as_user_capabilities = (
        "-all,+chown,+dac_override,+dac_read_search,+fowner,+sys_admin,+setuid,+setgid,+kill,+sys_ptrace"
    )
    return [
        Part(
            name="munged",
            host="ctl",
            user="munge",
            argv=("/usr/sbin/munged", "--foreground"),
            ready=lambda: inside("ctl", ["test", "-S", "/run/munge/munge.socket.2"]),
        ),
        Part(
            name="mariadbd",
            host="ctl",
            user="mysql",
            argv=(
                "/usr/sbin/mariadbd",
                "--no-defaults",
                f"--datadir={database}",
                "--socket=/run/mysqld/mysqld.sock",
                "--pid-file=/run/mysqld/mysqld.pid",
                "--skip-networking",
                "--innodb-buffer-pool-size=32M",
                "--innodb-log-file-size=8M",
                "--innodb-flush-log-at-trx-commit=0",
                "--performance-schema=off",
                f"--init-file={shipped('templates', 'sandbox', 'mariadb-init.sql')}",
            ),
            ready=lambda: inside("ctl", ["test", "-S", "/run/mysqld/mysqld.sock"]),
        ),
        Part(
            name="slurmdbd",
            host="ctl",
            user="slurm",
            argv=("/usr/sbin/slurmdbd", "-D"),
            ready=lambda: inside("ctl", ["sacctmgr", "-n", "show", "cluster"]),
        ),
        Part(
            name="wireguard-go",
            host="ctl",
            # As the user that will speak to it: it leaves when its control socket changes owner.
            user="broker-net",
            capabilities="-all,+net_admin",
            argv=("/usr/bin/wireguard-go", "--foreground", "broker0"),
            ready=lambda: inside("ctl", ["test", "-S", "/run/wireguard/broker0.sock"]),
        ),
        Part(
            name="slurmctld",
            host="ctl",
            user="slurm",
            argv=("/usr/sbin/slurmctld", "-D"),
            ready=lambda: inside("ctl", ["sh", "-c", "scontrol ping | grep -q 'is UP'"]),
        ),
        Part(
            name="broker-net",
            host="ctl",
            user="broker-net",
            capabilities="-all,+net_admin",
            argv=(
                *(python, "-m", "broker.privileged.net", "--socket", "/run/broker/net.sock"),
                *(
                    "--interface",
                    "broker0",
                    "--cidr",
                    "10.77.0.0/16",
                    "--allow-user",
                    "broker",
                    "--group",
                    "broker",
                ),
            ),
            ready=lambda: _answers(run / "net.sock"),
        ),
        Part(
            name="broker-as-user",
            host="ctl",
            capabilities=as_user_capabilities,
            network=False,
            argv=(
                *(python, "-m", "broker.privileged.as_user", "--socket", "/run/broker/as-user.sock"),
                *("--allow-user", "broker", "--group", "broker"),
            ),
            ready=lambda: _answers(run / "as-user.sock"),
        ),
        Part(
            name="export-sshd",
            host="ctl",
            argv=("/usr/sbin/sshd", "-D", "-e", "-f", "/etc/broker/export-sshd.conf"),
            ready=lambda: inside("ctl", ["sh", "-c", "ss -Hltn 'sport = :2022' | grep -q ."]),
        ),
        *([_postgres(where, postgres, inside)] if postgres is not None else []),
        Part(
            name="broker",
            host="ctl",
            user="broker",
            capabilities="-all",
            argv=(str(checkout / ".venv" / "bin" / "broker"), "serve", "--config", "/etc/broker/broker.toml"),
            ready=lambda: _answers(run / "api.sock"),
        ),
    ]


def _postgres(where: Layout, programs: Path, inside: Inside) -> Part:
    return Part(
        name="postgres",
        host="ctl",
        user="postgres",
        argv=(
            *(str(programs / "postgres"), "-D", str(where.directory / "postgres")),
            *("-c", "listen_addresses=", "-c", "unix_socket_directories=/run/postgresql", "-c", "fsync=off"),
        ),
        ready=lambda: inside("ctl", [str(programs / "pg_isready"), "-q", "-h", "/run/postgresql"]),
    )


def local_parts(inside: Inside) -> list[Part]:
    """The daemons of the one ordinary node."""
    # The whole word: `idle*` is a node that does not answer.
    answers = "sinfo -h -p local -o %t | grep -qxE 'idle|mix|alloc|comp|drain|drng'"
    return [
        Part(
            name="munged-local-1",
            host="local-1",
            user="munge",
            argv=("/usr/sbin/munged", "--foreground"),
            ready=lambda: inside("local-1", ["test", "-S", "/run/munge/munge.socket.2"]),
        ),
        Part(
            name="slurmd-local-1",
            host="local-1",
            argv=("/usr/sbin/slurmd", "-b", "-D", "-N", "local-1", "-f", "/etc/slurm/slurm.conf"),
            ready=lambda: inside("ctl", ["sh", "-c", answers]),
        ),
    ]


def _answers(path: Path) -> bool:
    """Somebody listens there: the file alone may be a dead process's."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
