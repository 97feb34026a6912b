"""The process in which pyslurm lives: started when needed, asked one thing at a time, ended when it does not answer."""

import contextlib
import json
import os
import select
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

from broker.core.errors import BrokerError, SlurmUnavailable

_PROGRAM = Path(__file__).with_name("pyslurm_native.py")


class PyslurmUnusable(BrokerError):
    """pyslurm cannot be loaded, or its process ends before it is asked anything."""


class PyslurmProcess:
    """`timeout`: seconds for each question, waiting for another thread's included. Thread-safe."""

    def __init__(self, python: str, slurm_conf: Path, timeout: float) -> None:
        self._command = [python, "-I", str(_PROGRAM)]
        self._environment = {"PATH": "/usr/bin:/bin", "SLURM_CONF": str(slurm_conf)}
        self._timeout = timeout
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def ask(self, do: str, **arguments: object) -> tuple[Any, str | None]:
        """(the answer, None), or (None, what slurmctld or libslurm said instead).

        SlurmUnavailable: no answer in time, or the process ended over the question. PyslurmUnusable: it never began.
        """
        end = time.monotonic() + self._timeout
        if not self._lock.acquire(timeout=self._timeout):
            raise SlurmUnavailable(f"pyslurm {do}: other questions waited for slurmctld for {self._timeout:g} s")
        try:
            running = self._started(end)
            answer = running.exchange({"do": do, "with": arguments}, end)
            if answer is None:
                raise SlurmUnavailable(f"pyslurm {do}: its process ended: {running.last_words()}")
            return answer.get("answer"), answer.get("error")
        except TimeoutError as exc:
            self._end()
            raise SlurmUnavailable(f"pyslurm {do}: slurmctld did not answer within {self._timeout:g} s") from exc
        except BaseException:
            self._end()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the process; the next question starts another."""
        with self._lock:
            self._end()

    def _started(self, end: float) -> "_Running":
        if self._running is not None and self._running.lives():
            return self._running
        self._end()
        try:
            self._running = _Running(self._command, self._environment)
        except OSError as exc:
            raise PyslurmUnusable(f"pyslurm's process cannot be started: {exc}") from exc
        first = self._running.exchange(None, end)
        if first is None:
            raise PyslurmUnusable(f"pyslurm's process ended at once: {self._running.last_words()}")
        if "error" in first:
            raise PyslurmUnusable(first["error"])
        return self._running

    def _end(self) -> None:
        if self._running is not None:
            self._running.end()
            self._running = None


class _Running:
    """OSError: it cannot be started."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        # A file: nobody reads a pipe while libslurm fills it with complaints.
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        here, self._stdin = os.pipe()
        self._stdout, there = os.pipe()
        try:
            self._process = subprocess.Popen(command, env=environment, stdin=here, stdout=there, stderr=self._stderr)
        except OSError:
            self._close()
            raise
        finally:
            os.close(here)
            os.close(there)
        self._read = b""

    def lives(self) -> bool:
        return self._process.poll() is None

    def exchange(self, question: dict[str, object] | None, end: float) -> dict[str, Any] | None:
        """The next line, after `question` was put where there is one. None: the process ended. TimeoutError: `end`."""
        if question is not None:
            try:
                os.write(self._stdin, json.dumps(question).encode() + b"\n")  # far less than a pipe holds
            except BrokenPipeError:
                return None
        while b"\n" not in self._read:
            if not select.select([self._stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError
            more = os.read(self._stdout, 1 << 20)
            if not more:
                return None
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read()[-4096:].decode("utf-8", "replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(1.0)
            return f"{said} (ended by signal {-code})" if code < 0 else said
        return said

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        self._stderr.close()
        os.close(self._stdin)
        os.close(self._stdout)
