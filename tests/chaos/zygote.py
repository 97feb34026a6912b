"""Forks daemons: everything is imported once, so that a restart takes milliseconds.

A program of its own, `python -m chaos.zygote FD`, that speaks pickles on the socket FD: an `Order` in, a pid out; a pid of
a daemon in, what became of it out. It ends with whoever started it, and every daemon ends with it.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from chaos.daemon import Order, live

_PR_SET_PDEATHSIG = 1


class Zygote:
    """The parent's side. `spawn` starts a daemon, `ended` says how it ended."""

    def __init__(self) -> None:
        self._ours, theirs = Pipe()
        tests = Path(__file__).parents[1]
        path = os.pathsep.join([str(tests), str(tests.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.zygote", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path},
        )
        theirs.close()
        self._lock = threading.Lock()

    def spawn(self, order: Order) -> int:
        """The daemon's pid."""
        with self._lock:
            self._ours.send(order)
            return int(self._ours.recv())

    def ended(self, pid: int) -> int | None:
        """How it ended, as `os.waitstatus_to_exitcode` says it; None: it has not."""
        with self._lock:
            self._ours.send(pid)
            ended: int | None = self._ours.recv()
            return ended

    def close(self) -> None:
        self._ours.close()
        self._process.wait(10)


def main() -> None:
    die_with_parent()
    ours = Connection(int(sys.argv[1]))
    ended: dict[int, int] = {}
    with contextlib.suppress(EOFError):
        while True:
            said = ours.recv()
            if isinstance(said, Order):
                pid = _fork(said, ours)
                ended.pop(pid, None)  # pids come again
                ours.send(pid)
                continue
            with contextlib.suppress(ChildProcessError):
                while (found := os.waitpid(-1, os.WNOHANG))[0]:
                    ended[found[0]] = os.waitstatus_to_exitcode(found[1])
            ours.send(ended.get(said))


def _fork(order: Order, ours: Connection) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        die_with_parent()
        ours.close()
        live(order)
    except BaseException as exc:
        with order.log.open("a") as log:
            log.write(f"the daemon failed: {type(exc).__name__}: {exc}\n")
        os._exit(1)
    os._exit(0)


def die_with_parent() -> None:
    """When whoever started this process is gone, this process is, too."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
