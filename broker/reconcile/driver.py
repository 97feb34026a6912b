"""Runs the activities: each on its timer and when nudged, its tasks in one pool, never two for one key at once."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from broker.core.errors import BrokerError, StaleLease

log = logging.getLogger("broker.reconcile")

_REST = 4.0
_LONGEST_REST_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Task:
    """One step of work. `key` names what it works on: a second task of the same key waits for a later pass."""

    key: str
    run: Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Activity:
    """`find` reads the state and returns what to do now; it is called every `interval_seconds` and, if `nudged`, on a nudge.

    What asks a provider on each pass is not nudged: every change would use up a call of the credential.
    """

    name: str
    interval_seconds: float
    find: Callable[[], Iterable[Task]]
    nudged: bool = True


@dataclass(frozen=True, kw_only=True)
class Done:
    """An activity's look for work (`task_seconds` None) or a task of it has ended: `ok`, `failed` or `overtaken`."""

    activity: str
    outcome: str
    task_seconds: float | None = None


@dataclass
class Health:
    """When an activity last went through, and what stopped it since."""

    last_success: datetime | None = None
    last_error: str | None = None
    task_errors: dict[str, str] = field(default_factory=dict)
    """Task key → what stopped it at its last run; gone once it goes well or is no longer to be done."""


@dataclass
class _Running:
    activity: Activity
    wake: threading.Event = field(default_factory=threading.Event)
    health: Health = field(default_factory=Health)


class Driver:
    """The activities' threads. `nudge()` after a change; `stop()` waits for the steps under way."""

    def __init__(
        self,
        activities: Iterable[Activity],
        clock: Callable[[], datetime],
        workers: int = 32,
        done: Callable[[Done], None] = lambda done: None,
    ) -> None:
        # Too few workers: booting nodes wait for one another's SSH; too many: memory, and SQLite writers queue up.
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="step")
        self._running = [_Running(activity) for activity in activities]
        self._threads: list[threading.Thread] = []
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._clock = clock
        self._done = done

    def start(self) -> None:
        for running in self._running:
            thread = threading.Thread(target=self._loop, args=(running,), name=running.activity.name)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._stopping.set()
        for running in self._running:
            running.wake.set()
        for thread in self._threads:
            thread.join()
        self._pool.shutdown(wait=True)

    def nudge(self) -> None:
        """Something changed: the activities look now."""
        for running in self._running:
            if running.activity.nudged:
                running.wake.set()

    def wake(self, name: str) -> None:
        """One activity looks now, nudged or not: something outside said that there is something to see."""
        for running in self._running:
            if running.activity.name == name:
                running.wake.set()

    def health(self) -> dict[str, tuple[datetime | None, str | None]]:
        """Activity → (last success, last error since)."""
        with self._lock:
            return {
                r.activity.name: (
                    r.health.last_success,
                    r.health.last_error or next(iter(r.health.task_errors.values()), None),
                )
                for r in self._running
            }

    def _loop(self, running: _Running) -> None:
        while not self._stopping.is_set():
            running.wake.clear()
            began = time.monotonic()
            self._pass(running)
            # A thousand leases nudge a thousand times: a look rests for a while in proportion to what it cost.
            self._stopping.wait(min(_REST * (time.monotonic() - began), _LONGEST_REST_S))
            running.wake.wait(running.activity.interval_seconds)

    def _pass(self, running: _Running) -> None:
        name = running.activity.name
        outcome = "failed"
        try:
            found = set()
            for task in running.activity.find():
                found.add(task.key)
                self._submit(name, task, running.health)
            with self._lock:
                for key in running.health.task_errors.keys() - found - self._busy:
                    del running.health.task_errors[key]
            running.health.last_success = self._clock()
            if running.health.last_error is not None:
                log.info("activity=%s goes on", name)
            running.health.last_error = None
            outcome = "ok"
        except BrokerError as exc:
            if running.health.last_error != str(exc):  # once: a database that is away stops each pass of each activity
                log.warning("activity=%s failed: %s", name, exc)
            running.health.last_error = str(exc)
        except Exception as exc:  # the driver's loop is the one place that goes on after anything
            running.health.last_error = f"{type(exc).__name__}: {exc}"
            log.exception("activity=%s failed", name)
        self._done(Done(activity=name, outcome=outcome))

    def _submit(self, name: str, task: Task, health: Health) -> None:
        with self._lock:
            if task.key in self._busy:
                return
            self._busy.add(task.key)
        self._pool.submit(self._run, name, task, health)

    def _run(self, name: str, task: Task, health: Health) -> None:
        began = time.monotonic()
        outcome = "failed"
        try:
            task.run()
            health.task_errors.pop(task.key, None)
            outcome = "ok"
        except StaleLease:
            outcome = "overtaken"
            log.debug("activity=%s task=%s was overtaken", name, task.key)
        except BrokerError as exc:
            if health.task_errors.get(task.key) != str(exc):
                log.warning("activity=%s task=%s failed: %s", name, task.key, exc)
            health.task_errors[task.key] = str(exc)
        except Exception as exc:
            health.task_errors[task.key] = f"{type(exc).__name__}: {exc}"
            log.exception("activity=%s task=%s failed", name, task.key)
        finally:
            with self._lock:
                self._busy.discard(task.key)
            seconds = time.monotonic() - began
            log.debug("activity=%s task=%s seconds=%.3f", name, task.key, seconds)
            self._done(Done(activity=name, outcome=outcome, task_seconds=seconds))
