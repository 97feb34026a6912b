"""The daemon's metrics: what counts, and the text that Prometheus reads."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from broker.core.errors import (
    CredentialsRefused,
    LedgerUnavailable,
    NoCapacity,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
)
from broker.core.offers import Instance, InstanceSpec
from broker.metrics import catalogue
from broker.metrics.catalogue import Spec
from broker.metrics.state import State
from broker.metrics.tail import Tail
from broker.providers.base import Provider
from broker.providers.http import Exchange, Wait
from broker.reconcile.driver import Done
from broker.reconcile.world import Happening

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_OUTCOMES: Mapping[type[ProviderError], str] = {
    NoCapacity: "sold_out",
    QuotaExceeded: "quota",
    CredentialsRefused: "credential",
    ProviderUnavailable: "unreachable",
    RateLimited: "rate_limited",
    OutcomeUnknown: "unknown",
}


class Metrics:
    """One a daemon. Its methods are handed to the parts that have something to tell."""

    def __init__(self, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series for each series, which nobody asks for
        self.registry = CollectorRegistry(auto_describe=False)
        self._read_on: Callable[[], None] | None = None
        self.registry.register(_First(self._bring_up_to_date))  # the collectors are asked in the order of their coming
        ProcessCollector(registry=self.registry)
        self._gauge(catalogue.BUILD).labels(version=version).set(1)
        self._intents = self._counter(catalogue.INTENTS)
        self._transitions = self._counter(catalogue.TRANSITIONS)
        self._stage = self._histogram(catalogue.STAGE)
        self._creates = self._counter(catalogue.CREATES)
        self._adopted = self._counter(catalogue.ADOPTED)
        self._orphans = self._counter(catalogue.ORPHANS)
        self._residue = self._counter(catalogue.RESIDUE)
        self._unbacked = self._counter(catalogue.UNBACKED)
        self._requests = self._counter(catalogue.REQUESTS)
        self._request_seconds = self._histogram(catalogue.REQUEST_SECONDS)
        self._waits = self._histogram(catalogue.WAITS)
        self._passes = self._counter(catalogue.PASSES)
        self._tasks = self._counter(catalogue.TASKS)
        self._task_seconds = self._histogram(catalogue.TASK_SECONDS)
        self._last_success = self._gauge(catalogue.LAST_SUCCESS)

    def follow(
        self,
        *,
        engine: Engine,
        credentials: frozenset[str],
        image: str,
        jobs_folder: Path,
        clock: Callable[[], datetime],
    ) -> Tail:
        """Show the ledger, too. The tail must be read on from time to time: each scrape does it as well."""
        tail = Tail(
            engine,
            transition=lambda was, became, reason: self._transitions.labels(was, became, reason).inc(),
            stage=lambda name, seconds: self._stage.labels(name).observe(seconds),
            adopted=lambda provider: self._adopted.labels(provider).inc(),
        )
        self._read_on = tail.read_on
        self.registry.register(
            State(engine=engine, credentials=credentials, image=image, jobs_folder=jobs_folder, clock=clock)
        )
        return tail

    def text(self) -> bytes:
        """The exposition, in CONTENT_TYPE."""
        return generate_latest(self.registry)

    def intent(self, verb: str) -> None:
        self._intents.labels(verb).inc()

    def hear(self, heard: Exchange | Wait) -> None:
        """One HTTP call of an adapter, or one wait for its turn."""
        if isinstance(heard, Wait):
            self._waits.labels(heard.provider).observe(heard.seconds)
            return
        status = "none" if heard.status is None else str(heard.status)
        self._requests.labels(heard.provider, heard.method, heard.endpoint, status).inc()
        self._request_seconds.labels(heard.provider, heard.endpoint).observe(heard.seconds)

    def done(self, done: Done) -> None:
        """A pass or a task of an activity has ended."""
        if done.task_seconds is None:
            self._passes.labels(done.activity, done.outcome).inc()
            if done.outcome == "ok":
                self._last_success.labels(done.activity).set_to_current_time()
            return
        self._tasks.labels(done.activity, done.outcome).inc()
        self._task_seconds.labels(done.activity).observe(done.task_seconds)

    def happened(self, what: Happening, provider: str | None, count: int) -> None:
        match what:
            case Happening.ORPHAN_ENDED:
                self._orphans.labels(provider or "").inc(count)
            case Happening.RESIDUE_REMOVED:
                self._residue.labels(provider or "").inc(count)
            case Happening.NODE_UNBACKED:
                self._unbacked.inc(count)

    def counting(self, provider: Provider) -> Provider:
        """`provider`, with its purchases counted."""
        return cast(Provider, _Counting(provider, self._creates))

    def _bring_up_to_date(self) -> None:
        if self._read_on is not None:
            with contextlib.suppress(SQLAlchemyError, LedgerUnavailable):  # broker_ledger_up says so
                self._read_on()

    def _counter(self, spec: Spec) -> Counter:
        return Counter(spec.name, spec.help, spec.labels, registry=self.registry)

    def _gauge(self, spec: Spec) -> Gauge:
        return Gauge(spec.name, spec.help, spec.labels, registry=self.registry)

    def _histogram(self, spec: Spec) -> Histogram:
        return Histogram(spec.name, spec.help, spec.labels, registry=self.registry, buckets=spec.buckets)


class _First(Collector):
    """Shows nothing: runs `before` ahead of whatever is shown at a scrape."""

    def __init__(self, before: Callable[[], None]) -> None:
        self._before = before

    def collect(self) -> Iterable[Metric]:
        self._before()
        return ()


class _Counting:
    """Everything else goes to the provider itself, whatever it can."""

    def __init__(self, inner: Provider, creates: Counter) -> None:
        self._inner = inner
        self._creates = creates

    def create(self, spec: InstanceSpec) -> Instance:
        outcome = "refused"
        try:
            instance = self._inner.create(spec)
            outcome = "bought"
            return instance
        except ProviderError as exc:
            outcome = next((word for kind, word in _OUTCOMES.items() if isinstance(exc, kind)), "refused")
            raise
        except Exception:
            outcome = "unknown"
            raise
        finally:
            self._creates.labels(self._inner.name, outcome).inc()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
