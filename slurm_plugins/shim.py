#!/usr/bin/python3 -IES
"""ResumeProgram, SuspendProgram and ResumeFailProgram in one: leaves Slurm's wish as a file for the broker and ends.

Slurm calls it as `resume`, `suspend` or `resume-failed` (links to this file) with one hostlist. The file is on the disk
before this program ends, so a dead broker, a crash or a power cut loses no wish. Exit 1 only when it could not be
written: syslog says why, slurmctld's log names the status, and the nodes go down when ResumeTimeout is over.

Standard library only, and little of it: Slurm starts this for every batch of nodes and waits meanwhile. Python 3.6+.
"""
# ruff: noqa: PTH104, PTH108, PTH118, PTH119, PTH123  (pathlib alone would double the start time)

import os

# Slurm closes descriptors 0 to 2: the first file opened would become standard input, the third one standard error.
while os.open(os.devnull, os.O_RDWR) < 2:
    pass

import json  # noqa: E402
import sys  # noqa: E402
import syslog  # noqa: E402
import time  # noqa: E402

SPOOL = "/var/spool/broker"  # `broker slurm-conf --install` writes the site's own here

_VERBS = {"resume": "resume", "suspend": "suspend", "resume-failed": "resume_failed"}
# The broker reads the file by its group, which the folder's setgid bit hands on.
_MODE = 0o640


def main(argv, environment):
    """Leave the intent and knock; the exit status."""
    try:
        verb = _VERBS.get(os.path.basename(argv[0]))
        if verb is None or len(argv) != 2 or not argv[1]:
            raise ValueError(f"called as {argv[:3]!r}; wanted: {'|'.join(sorted(_VERBS))} HOSTLIST")
        # Slurm's memory file vanishes with slurmctld or with us: read it before anything else can fail.
        resume = read_resume_file(environment.get("SLURM_RESUME_FILE")) if verb == "resume" else None
        leave_intent(SPOOL + "/intents", verb, argv[1], resume)
    except Exception as exc:  # nobody reads our standard error
        complain(f"intent lost: {exc}")
        return 1
    knock(SPOOL + "/knock")
    return 0


def read_resume_file(path):
    """Slurm's own JSON as it is (its keys differ by release), or None."""
    try:
        with open(path, "rb") as source:
            content = json.loads(source.read().decode("utf-8"))
    except (OSError, TypeError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def leave_intent(folder, verb, nodes, resume):
    """Write `<time_ns>-<pid>-<verb>.json` into `folder`, whole or not at all, and durable."""
    now = time.time()
    name = f"{int(now * 1e9)}-{os.getpid()}-{verb}.json"
    body = {"version": 1, "verb": verb, "nodes": nodes, "at": now, "resume": resume}
    hidden = os.path.join(folder, ".tmp-" + name)
    target = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    try:
        content = json.dumps(body).encode("utf-8")
        while content:
            content = content[os.write(target, content) :]
        os.fsync(target)
        os.rename(hidden, os.path.join(folder, name))
    except BaseException:
        os.unlink(hidden)
        raise
    finally:
        os.close(target)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def knock(path):
    """Wake the broker; when it is not there it finds the file at its next start."""
    try:
        # Not waiting: without a reader this fails at once. No O_CREAT: a plain file there would hide the broker's FIFO.
        fifo = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fifo, b"k")
        finally:
            os.close(fifo)
    except OSError:
        pass


def complain(text):
    """A line in syslog; without a syslog it goes nowhere, quietly."""
    syslog.openlog("broker-shim", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_ERR, text.encode("utf-8", "replace").decode("utf-8").replace("\0", "?"))


if __name__ == "__main__":
    sys.exit(main(sys.argv, os.environ))
