"""What a sandbox needs and may use again: the instances' root, an empty accounting database, the node bundle."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from broker.core.errors import BrokerError
from broker.provisioning import bundle
from broker.sandbox.layout import Layout
from broker.templating import shipped

_NEEDED = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "slurmdbd": "slurmdbd",
    "sbatch": "slurm-client",
    "mariadbd": "mariadb-server",
    "munged": "munge",
    "sshd": "openssh-server",
    "wireguard-go": "wireguard-go",
    "wg": "wireguard-tools",
    "sshfs": "sshfs",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
}
Say = Callable[[str], None]


def check_machine() -> None:
    """BrokerError: not root, or a program of the sandbox's real parts is not installed."""
    check_root()
    missing = sorted({package for program, package in _NEEDED.items() if shutil.which(program, path=_PATH) is None})
    if missing:
        raise BrokerError(f"not installed: {', '.join(missing)}; `make packages` installs them and says why")


def check_root() -> None:
    """BrokerError: not root."""
    if os.geteuid() != 0:
        raise BrokerError("the sandbox makes namespaces and mounts: run it as root (sudo)")


@contextlib.contextmanager
def alone(layout: Layout, say: Say) -> Iterator[None]:
    """Keep other sandboxes that share the cache from building in it meanwhile."""
    layout.cache.mkdir(parents=True, exist_ok=True)
    lock = os.open(layout.cache, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("sandbox: another one prepares what both need; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def instance_root(layout: Layout, say: Say) -> None:
    """A minimal Debian, built whole or not at all, and again when its recipe has changed."""
    script = shipped("templates", "sandbox", "instance_image.sh")
    stamp = hashlib.sha256(script.read_bytes()).hexdigest()
    root = layout.instance_root
    if (root / ".recipe").exists() and (root / ".recipe").read_text() == stamp:
        return
    say("instance root: a minimal Debian is built once (about half a minute)")
    part = root.with_name(f"{root.name}.part")
    for old in (part, root):
        shutil.rmtree(old, ignore_errors=True)
    layout.cache.mkdir(parents=True, exist_ok=True)
    log = layout.log / "instance-root.log"
    with log.open("wb") as output:
        # debootstrap mounts /proc below its target: were it killed out here, that mount would stay in the cache.
        build = [
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("--propagation", "private", "sh", str(script), str(part)),
        ]
        done = subprocess.run(build, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False, timeout=900)
    if done.returncode != 0:
        raise BrokerError(f"the instance root could not be built; see {log}")
    (part / ".recipe").write_text(stamp)
    part.rename(root)


def database(layout: Layout, say: Say) -> None:
    """An empty MariaDB of this sandbox, copied from one that was made once."""
    template = layout.cache / "mariadb"
    if not template.exists():
        say("accounting database: an empty one is made once")
        part = layout.cache / "mariadb.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        log = layout.log / "mariadb-install.log"
        with log.open("wb") as output:
            done = subprocess.run(
                [
                    "mariadb-install-db",
                    "--no-defaults",
                    f"--datadir={part}",
                    "--auth-root-authentication-method=socket",
                    "--skip-test-db",
                    "--skip-name-resolve",
                    "--innodb-log-file-size=8M",
                ],
                stdout=output,
                stderr=output,
                check=False,
                timeout=300,
            )
        if done.returncode != 0:
            raise BrokerError(f"the accounting database could not be made; see {log}")
        part.rename(template)
    target = layout.directory / "mariadb"
    shutil.copytree(template, target)
    for path in (target, *target.rglob("*")):
        shutil.chown(path, "mysql", "mysql")


def postgres_programs() -> Path:
    """The folder of the newest PostgreSQL's programs. BrokerError: it is not installed."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not places:
        raise BrokerError("not installed: postgresql; `make packages` installs it and says why")
    return places[-1].parent


def postgres(layout: Layout, say: Say) -> None:
    """A PostgreSQL of this sandbox with the daemon's role and an empty database, copied from one that was made once."""
    programs = postgres_programs()
    template = layout.cache / f"postgres-{programs.parts[-2]}"
    if not template.exists():
        say("ledger database: an empty PostgreSQL is made once")
        # It refuses to run as root, and the cache may lie where its own user cannot go.
        with tempfile.TemporaryDirectory(prefix="broker-postgres-") as folder:
            shutil.chown(folder, "postgres")
            data = f"{folder}/data"
            _as_postgres(layout, [str(programs / "initdb"), "--auth-local=peer", "--no-sync", "-E", "UTF8", "-D", data])
            _as_postgres(
                layout,
                [str(programs / "postgres"), "--single", "-D", data, "postgres"],
                "CREATE ROLE broker LOGIN\nCREATE DATABASE broker OWNER broker\n",
            )
            part = template.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(data, part)
            part.rename(template)
    target = layout.directory / "postgres"
    shutil.copytree(template, target)
    for path in (target, *target.rglob("*")):
        shutil.chown(path, "postgres", "postgres")


def _as_postgres(layout: Layout, argv: list[str], stdin: str = "") -> None:
    log = layout.log / "postgres-install.log"
    with log.open("ab") as output:
        done = subprocess.run(
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--", *argv],
            input=stdin.encode(),
            stdout=output,
            stderr=output,
            cwd="/",
            check=False,
            timeout=300,
        )
    if done.returncode != 0:
        raise BrokerError(f"the ledger's PostgreSQL could not be made; see {log}")


def node_bundle(layout: Layout, say: Say) -> None:
    """The bundle of this machine's Slurm, in the place where the sandbox's daemon looks for it."""
    built = bundle.build(layout.cache / "bundle", progress=lambda line: say(f"node bundle: {line}"))
    target = layout.state / "bundle"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy2(built.path, target / built.path.name)


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """A file with its mode from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as target:
        target.write(text)
