"""What the API may ask for. Each method is one question or one deed; there is no second writer behind it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, Engine

from broker.core.errors import BrokerError, NotFound
from broker.core.leases import LIVING, Lease, LeaseState
from broker.core.usage import CostBounds, UsageEvent, UsageKind, bounds
from broker.db import blocks, jobs, leases, purchasing, steps, usage
from broker.db.engine import reading
from broker.services import purchases
from broker.services.credentials import Credentials
from broker.services.market import Market, OffersView, Question
from broker.services.views import LeaseLine, LeaseView, NodeAccess, Status, StepRecord, Why
from broker.services.why import explain_job, explain_node
from broker.slurm.base import SlurmClient
from broker.slurm.wishes import read_wishes


class Operations:
    """`granularity`: credential → its billing unit; `only_running`: credentials that bill nothing before a machine runs;
    `ssh`: a lease's port, user and key file.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        slurm: SlurmClient,
        clock: Callable[[], datetime],
        version: str,
        cluster: str,
        road: str,
        addresses: Mapping[str, IPv4Address],
        granularity: Mapping[str, timedelta],
        only_running: frozenset[str],
        image: str,
        lease_logs: Path,
        ssh: Callable[[Lease], tuple[int, str, Path]],
        health: Callable[[], dict[str, tuple[datetime | None, str | None]]],
        nudge: Callable[[], None],
        market: Market,
        credentials: Credentials,
    ) -> None:
        self._engine = engine
        self._slurm = slurm
        self._clock = clock
        self._version = version
        self._cluster = cluster
        self._road = road
        self._addresses = addresses
        self._granularity = granularity
        self._only_running = only_running
        self._image = image
        self._lease_logs = lease_logs
        self._ssh = ssh
        self._health = health
        self._nudge = nudge
        self._market = market
        self.credentials = credentials
        """What may be asked of and done to each credential."""

    def offers(self, question: Question) -> OffersView:
        """What was on sale at the last readings. BrokerError: a GPU or a shape nobody knows."""
        return self._market.look(question)

    def leases(self, include_released: bool, node: str | None) -> list[LeaseLine]:
        """Purchases, oldest first."""
        with reading(self._engine) as db:
            if node is not None:
                rows = [each for each in leases.of_node(db, node) if include_released or each.state in LIVING]
            else:
                rows = leases.all_leases(db) if include_released else leases.living(db)
            used = usage.of_leases(db, (lease.id for lease in rows))
            reached = steps.first(db, (lease.id for lease in rows if lease.provider in self._only_running))
        return [
            LeaseLine(lease=lease, cost=self._cost(lease, used.get(lease.id, {}), reached.get(lease.id)))
            for lease in rows
        ]

    def lease(self, lease_id: str) -> LeaseView:
        """NotFound."""
        with reading(self._engine) as db:
            return self._views(db, [leases.get(db, lease_id)])[0]

    def release(self, lease_id: str, reason: str, actor: str) -> LeaseView:
        """Give a lease's machine back whatever runs on it; Slurm requeues the job. Asking again changes nothing."""
        now = self._clock()
        with self._engine.begin() as db:
            lease = leases.get(db, lease_id)
            held = lease.state in {
                LeaseState.REQUESTED,
                LeaseState.LAUNCHING,
                LeaseState.BOOTSTRAPPING,
                LeaseState.READY,
            }
            purchases.give_up(db, lease, f"released by {actor}: {reason}", now)
        if held:
            self._slurm.power_down_force([lease.node], f"broker: released by {actor}: {reason}")
        self._nudge()
        return self.lease(lease_id)

    def log(self, lease_id: str, which: Literal["boot", "console"]) -> str:
        """What we did on the machine (`boot`) or what it said itself (`console`). NotFound: nothing was kept."""
        with reading(self._engine) as db:
            leases.get(db, lease_id)
        path = self._lease_logs / lease_id / f"{which}.log"
        if not path.exists():
            raise NotFound(
                f"lease {lease_id} has no {which} log yet: it is kept when its machine is first reached over SSH"
            )
        return path.read_text(errors="replace")

    def why(self, target: str) -> Why:
        """What happened to a job (number) or node (name) and what is awaited. NotFound."""
        return self._why_job(int(target)) if target.isdecimal() else self._why_node(target)

    def pause(self, reason: str, actor: str) -> Status:
        """Stop all buying; what is bought already goes on."""
        with self._engine.begin() as db:
            purchasing.set_paused(db, f"{reason} (by {actor})", actor)
        return self.status()

    def resume(self, actor: str) -> Status:
        """Buy again."""
        with self._engine.begin() as db:
            purchasing.set_paused(db, None, actor)
        self._nudge()
        return self.status()

    def status(self) -> Status:
        """The daemon at a glance."""
        with reading(self._engine) as db:
            suspended = blocks.view(db, self._clock(), self._image).closed_credentials()
            return Status(
                version=self._version,
                cluster=self._cluster,
                slurm=self._road,
                paused=purchasing.paused(db),
                living_leases=leases.count_living(db),
                activities=self._health(),
                providers={name: suspended.get(name, "ok") for name in sorted(self._granularity)},
            )

    def node_access(self, node: str) -> NodeAccess:
        """How to open a shell on the machine behind `node`. NotFound: there is none now."""
        with reading(self._engine) as db:
            lease = leases.holding(db, node)
        if lease is None or lease.address is None or lease.host_key is None:
            raise NotFound(f"no machine with an address stands behind {node} now; `broker why {node}` tells its story")
        port, user, key_file = self._ssh(lease)
        return NodeAccess(
            node=node, address=lease.address, port=port, user=user, host_key=lease.host_key, key_file=str(key_file)
        )

    def _why_job(self, job_id: int) -> Why:
        job = next(iter(self._slurm.jobs([job_id])), None)
        if job is None:
            raise NotFound(f"slurmctld does not know job {job_id} (any more); `sacct -j {job_id}` may")
        with reading(self._engine) as db:
            asked = {lease.id: lease for lease in leases.of_job(db, job_id)}
            ran = {lease.id: lease for lease in leases.by_ids(db, jobs.leases_of(db, job_id))}
            views = self._views(db, (asked | ran).values())
            left_alone = blocks.view(db, self._clock(), self._image).in_words()
        try:
            wished = read_wishes(job.comment)
        except BrokerError:
            wished = {}
        in_order = sorted(views, key=lambda view: view.lease.created_at)
        return explain_job(job, in_order, self._clock(), left_alone, wished)

    def _why_node(self, node: str) -> Why:
        if node not in self._addresses:
            near = ", ".join(sorted(self._addresses)[:4])
            raise NotFound(f"{node} is neither a job number nor one of our nodes ({near}, …)")
        state = next(
            (n.state + "".join(f"+{f}" for f in sorted(n.flags)) for n in self._slurm.nodes() if n.name == node),
            "unknown",
        )
        with reading(self._engine) as db:
            # The story is that of its last lease: a name in use for years has thousands.
            views = self._views(db, leases.of_node(db, node)[-1:])
        return explain_node(node, state, views)

    def _views(self, db: Connection, rows: Collection[Lease]) -> list[LeaseView]:
        ids = [lease.id for lease in rows]
        events, done, used = leases.histories(db, ids), steps.histories(db, ids), usage.of_leases(db, ids)
        return [
            LeaseView(
                lease=lease,
                events=tuple(events.get(lease.id, ())),
                steps=tuple(
                    StepRecord(name=name, finished_at=at, seconds=seconds)
                    for name, at, seconds in done.get(lease.id, ())
                ),
                usage=tuple(_in_order(used.get(lease.id, {}).values())),
                cost=self._cost(
                    lease, used.get(lease.id, {}), min((at for _, at, _ in done.get(lease.id, ())), default=None)
                ),
            )
            for lease in rows
        ]

    def _cost(self, lease: Lease, used: Mapping[UsageKind, UsageEvent], reached: datetime | None) -> CostBounds | None:
        """`reached`: when a step of its join first ended well, which is when the machine was first seen to run."""
        start = used.get(UsageKind.START)
        if start is None:
            return None
        unit = self._granularity.get(lease.provider or "", timedelta(seconds=1))
        now = self._clock()
        runs_since = (reached or now) if lease.provider in self._only_running else None
        return bounds(start, used.get(UsageKind.END), now, unit, runs_since)


def _in_order(events: Iterable[UsageEvent]) -> list[UsageEvent]:
    return sorted(events, key=lambda event: event.not_before)
