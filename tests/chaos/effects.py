"""Counts what the daemon does to the world and to its ledger, and ends the process by SIGKILL where it is told to."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
BEFORE, AFTER = "before", "after"


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where the process dies: at its `index`-th effect, at the `nth` one of a label and phase, or at the first one
    whose label and phase are not `spared`. None of them: it lives.
    """

    index: int | None = None
    label: str | None = None
    phase: str | None = None
    nth: int = 1
    spared: frozenset[tuple[str, str]] | None = None


@dataclass(frozen=True, kw_only=True)
class Effect:
    index: int
    phase: str
    label: str
    died: bool


class Effects:
    """`journal` gets a line an effect; what is written there outlives us."""

    def __init__(self, journal: Path, cut: Cut) -> None:
        self._file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._cut = cut
        self._count = 0
        self._seen = 0
        self._lock = threading.Lock()
        self._doing = threading.local()

    @contextmanager
    def doing(self, activity: str) -> Iterator[None]:
        """What this thread does meanwhile belongs to `activity`."""
        before = getattr(self._doing, "name", None)
        self._doing.name = activity
        try:
            yield
        finally:
            self._doing.name = before

    def around(self, what: str, deed: Callable[[], T]) -> T:
        """Do it, with a place to die before and one after it."""
        self.hit(what, BEFORE)
        done = deed()
        self.hit(what, AFTER)
        return done

    def hit(self, what: str, phase: str) -> None:
        label = f"{getattr(self._doing, 'name', None) or 'other'}: {what}"
        with self._lock:
            self._count += 1
            dies = self._dies(label, phase)
            os.write(self._file, f"{self._count}\t{phase}\t{label}\t{int(dies)}\n".encode())
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
                threading.Event().wait()  # the other threads are gone in a moment; this one goes no further either

    def _dies(self, label: str, phase: str) -> bool:
        if self._cut.index is not None:
            return self._count == self._cut.index
        if self._cut.spared is not None:
            return (label, phase) not in self._cut.spared
        if self._cut.label == label and self._cut.phase == phase:
            self._seen += 1
            return self._seen == self._cut.nth
        return False


def read_journal(journal: Path) -> list[Effect]:
    """The effects of every daemon that wrote there, in order."""
    if not journal.exists():
        return []
    rows = [line.split("\t") for line in journal.read_text().splitlines()]
    return [Effect(index=int(index), phase=phase, label=label, died=died == "1") for index, phase, label, died in rows]
