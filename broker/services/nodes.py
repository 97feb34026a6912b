"""What Slurm asks of us: wake nodes, let nodes go. It comes as intent files that the shim left."""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from broker.core.errors import BrokerError
from broker.core.leases import LeaseState
from broker.db import leases
from broker.services import purchases
from broker.slurm import hostlist
from broker.slurm.parse import resume_jobs

log = logging.getLogger("broker.nodes")
# A shim writes within milliseconds; a stuck disk may hold it longer.
_HALF_WRITTEN_SECONDS = 60
_VERBS = frozenset({"resume", "suspend", "resume_failed"})


@dataclass(frozen=True, kw_only=True)
class Intent:
    """One call of a power-save program. `name` is its file's name and, for a resume, the request's id."""

    name: str
    verb: str
    nodes: tuple[str, ...]
    at: datetime
    jobs: Mapping[str, int]
    """Node → the job that woke it, as far as SLURM_RESUME_FILE told."""


class Intents:
    """The intent folder and what follows from each file in it.

    `shape_of` maps our node names to their shapes; names that are not ours are left alone and logged. `taken` is told
    the verb of each one carried out, or `unreadable`.
    """

    def __init__(
        self,
        folder: Path,
        engine: Engine,
        shape_of: Mapping[str, str],
        resume_timeout: timedelta,
        clock: Callable[[], datetime],
        taken: Callable[[str], None] = lambda verb: None,
    ) -> None:
        self._folder = folder
        self._engine = engine
        self._shape_of = shape_of
        self._resume_timeout = resume_timeout
        self._clock = clock
        self._taken = taken

    def wished(self) -> set[str]:
        """Nodes that calls of ResumeProgram which are not carried out yet have asked for."""
        wished: set[str] = set()
        for path in self._folder.glob("[!.]*-resume.json"):
            with contextlib.suppress(OSError, UnicodeDecodeError, BrokerError):
                wished.update(parse_intent(path.name, path.read_text()).nodes)
        return wished

    def take(self) -> int:
        """Carry out every intent that can be, oldest first; how many were. One that must wait blocks its nodes only."""
        self._set_halves_aside()
        done = 0
        waiting: set[str] = set()
        # Not `*.json`: pathlib would match the shim's `.tmp-*.json`, too, before it is written to its end.
        for path in sorted(self._folder.glob("[!.]*.json")):
            try:
                intent = parse_intent(path.name, path.read_text())
            except FileNotFoundError:
                continue
            except (UnicodeDecodeError, BrokerError) as exc:
                self._set_aside(path, exc)
                continue
            except OSError as exc:
                log.error("intent=%s cannot be read now (%s); it is tried again", path.name, exc)
                continue
            if waiting.intersection(intent.nodes) or not self._apply(intent):
                waiting.update(intent.nodes)
                continue
            # Only now: a crash before this line repeats the intent, and repeating it changes nothing.
            path.unlink(missing_ok=True)
            self._taken(intent.verb)
            done += 1
        return done

    def trouble(self) -> None:
        """BrokerError: some intents could not be read and lie aside, until somebody has looked at them."""
        aside = sorted(path.name for path in (self._folder / "bad").glob("*"))
        if aside:
            raise BrokerError(
                f"{len(aside)} of Slurm's calls could not be read, the last is {aside[-1]}: kept in {self._folder / 'bad'}; "
                "a node that was asked for by one is powered down by the sweep, and its job asks again; delete the files "
                "when you have seen them"
            )

    def _set_halves_aside(self) -> None:
        """What a program of Slurm that was killed while it wrote has left."""
        for path in self._folder.glob(".tmp-*"):
            try:
                age = time.time() - path.stat().st_mtime  # the file system knows no other clock
            except FileNotFoundError:  # whole by now
                continue
            if age > _HALF_WRITTEN_SECONDS:
                self._set_aside(path, BrokerError("whoever wrote it was killed before it was whole"))

    def _apply(self, intent: Intent) -> bool:
        now = self._clock()
        ours = [node for node in intent.nodes if node in self._shape_of]
        if len(ours) < len(intent.nodes):
            strangers = ",".join(sorted(set(intent.nodes) - set(ours)))
            log.warning("intent=%s nodes=%s not in any [[shape]]: left alone", intent.name, strangers)
        return self._resume(intent, ours, now) if intent.verb == "resume" else self._let_go(intent, ours, now)

    def _resume(self, intent: Intent, nodes: list[str], now: datetime) -> bool:
        complete = True
        with self._engine.begin() as db:
            for node in nodes:
                held = leases.holding(db, node)
                if held is None:
                    if not leases.of_request(db, intent.name, node):
                        purchases.request(
                            db,
                            node=node,
                            shape=self._shape_of[node],
                            job_id=intent.jobs.get(node),
                            request_id=intent.name,
                            at=intent.at,
                            deadline=intent.at + self._resume_timeout,
                            now=now,
                        )
                elif held.state is LeaseState.DRAINING:
                    complete = False  # the old machine is not fenced yet; a moment later it is
                elif held.state is LeaseState.READY and intent.at > held.state_since:
                    # Slurm wakes only what it holds for powered down: its word to let go never reached us.
                    purchases.give_up(db, held, "Slurm wakes the node again: its power-down was missed", now)
                    complete = False
        log.info("intent=%s verb=resume nodes=%s complete=%s", intent.name, hostlist.fold(intent.nodes), complete)
        return complete

    def _let_go(self, intent: Intent, nodes: list[str], now: datetime) -> bool:
        reason = "Slurm let the idle node go" if intent.verb == "suspend" else "ResumeTimeout: Slurm gave the node up"
        with self._engine.begin() as db:
            for node in nodes:
                held = leases.holding(db, node)
                # A lease asked for after this call belongs to a later wake-up of the same name.
                if held is not None and held.requested_at <= intent.at:
                    purchases.give_up(db, held, reason, now)
        log.info("intent=%s verb=%s nodes=%s", intent.name, intent.verb, hostlist.fold(intent.nodes))
        return True

    def _set_aside(self, path: Path, why: Exception) -> None:
        bad = self._folder / "bad"
        bad.mkdir(exist_ok=True)
        try:
            path.rename(bad / path.name.removeprefix("."))
        except FileNotFoundError:
            return
        self._taken("unreadable")
        log.error("intent=%s cannot be read (%s); kept in %s", path.name, why, bad)


def parse_intent(name: str, text: str) -> Intent:
    """BrokerError: not an intent of version 1."""
    try:
        body: Any = json.loads(text)
    except ValueError as exc:
        raise BrokerError(f"intent {name} is not JSON: {exc}") from exc
    if not isinstance(body, dict) or body.get("version") != 1 or body.get("verb") not in _VERBS:
        raise BrokerError(f"intent {name} is not of version 1 with a known verb")
    if not isinstance(body.get("nodes"), str) or not isinstance(body.get("at"), int | float):
        raise BrokerError(f"intent {name} lacks `nodes` (a hostlist) or `at` (epoch seconds)")
    try:
        at = datetime.fromtimestamp(body["at"], UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise BrokerError(f"intent {name}: at = {body['at']} is no time") from exc
    return Intent(
        name=name.removesuffix(".json"),
        verb=body["verb"],
        nodes=tuple(hostlist.expand(body["nodes"])),
        at=at,
        jobs=dict(_jobs_of_nodes(body.get("resume"))),
    )


def _jobs_of_nodes(resume: object) -> Iterator[tuple[str, int]]:
    if not isinstance(resume, dict):
        return
    # Reversed, so that of two jobs naming one node the first one listed stays.
    for job_id, nodes in reversed(resume_jobs(resume)):
        for node in nodes:
            yield node, job_id
