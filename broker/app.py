"""Composition root: settings in, wired parts out. The one module that knows all the others."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from fastapi import FastAPI
from sqlalchemy import Engine

from broker import __version__
from broker.api.app import create_app
from broker.api.auth import operator_uids
from broker.cashier.stripe_api import StripeApi
from broker.config import Settings
from broker.config.settings import StripeMode
from broker.core.demand import Shape
from broker.core.errors import ConfigError, LedgerUnavailable
from broker.core.leases import Lease
from broker.db import leases
from broker.db.engine import connect, prepare, reading
from broker.db.owner import Owner, own
from broker.metrics.metrics import CONTENT_TYPE, Metrics
from broker.metrics.tail import Tail
from broker.privileged.client import AsUserDomain, NetDomain, PrivilegedClient
from broker.providers.base import Provider
from broker.providers.http import Exchange, Hear, Wait
from broker.providers.registry import make_providers
from broker.providers.vast_webhook import VastWebhook
from broker.provisioning.base import OpenShell
from broker.provisioning.bundle import Bundle, find_bundle
from broker.provisioning.keys import client_key
from broker.provisioning.ssh import open_shell
from broker.provisioning.steps import JoinPlan
from broker.reconcile import (
    allot,
    attend,
    bootstrap,
    exports,
    hand_back,
    join,
    keep_history,
    launch,
    lost,
    overlay,
    probe,
    release,
    renew,
)
from broker.reconcile.driver import Activity, Driver, Task
from broker.reconcile.living import Living, quiet
from broker.reconcile.meter import Meter
from broker.reconcile.read_signals import ReadSignals
from broker.reconcile.refresh_offers import Refresh
from broker.reconcile.residue import Residues
from broker.reconcile.sign import SLURMD_PORT, Sign, knock
from broker.reconcile.sweep import Sweep
from broker.reconcile.trial import Trials
from broker.reconcile.unattended import Unattended
from broker.reconcile.watch import Watch
from broker.reconcile.world import Listings, Site, World
from broker.services.billing import Billing
from broker.services.billing_desk import Desk
from broker.services.cashier import make_cashier
from broker.services.clocks import Clocks
from broker.services.credentials import Credentials
from broker.services.market import Market
from broker.services.metering import Metering
from broker.services.nodes import Intents
from broker.services.operations import Operations
from broker.services.stripe_webhook import StripeWebhook
from broker.services.usage_outbox import UsageOutbox
from broker.signals.registry import make_signals
from broker.slurm.base import SlurmClient
from broker.slurm.directives import read
from broker.slurm.for_nodes import node_needs
from broker.slurm.inlined import read_inlined
from broker.slurm.plugins import task_prolog
from broker.slurm.road import choose


@dataclass(frozen=True, kw_only=True)
class App:
    """The daemon's parts, wired and not yet started."""

    api: FastAPI
    driver: Driver
    engine: Engine
    owner: Owner
    metrics: Metrics
    knock: Path
    socket: Path


@dataclass(frozen=True, kw_only=True)
class Outside:
    """Whom the daemon speaks to. `road`: which way to slurmctld that is, and why.

    `ticks`: seconds that only ever grow, at the pace of the clock.
    """

    providers: Mapping[str, Provider]
    slurm: SlurmClient
    road: str
    net: NetDomain
    as_user: AsUserDomain
    open_shell: OpenShell
    knock: Callable[[IPv4Address], Sign]
    ticks: Callable[[], float] = time.monotonic


def utc_now() -> datetime:
    return datetime.now(UTC)


def build(
    settings: Settings,
    clock: Callable[[], datetime] = utc_now,
    outside: Outside | None = None,
    adapt: Callable[[Activity], Activity] = lambda activity: activity,
) -> App:
    """Wire the daemon. ConfigError: something the configuration names is missing on this machine.

    The crash driver (`tests/chaos/`) puts a world of its own `outside`, and sees each activity before it is started.
    """
    state, run, spool = settings.site.state_dir, settings.site.run_dir, settings.site.spool_dir
    engine = connect(settings.site.ledger, settings.site.database_password, create=True)
    owner = _own(engine)
    prepare(engine)
    _refuse_lost_ledger(engine, state / "leases")
    metrics = Metrics(__version__)
    clocks = Clocks(clock)

    def hear(heard: Exchange | Wait) -> None:
        metrics.hear(heard)
        clocks.hear(heard)

    outside = outside or outside_of(settings, clock, hear)
    providers = {name: metrics.counting(adapter) for name, adapter in outside.providers.items()}
    driver: Driver | None = None

    def nudge() -> None:
        if driver is not None:
            driver.nudge()

    bare = make_world(settings, engine, replace(outside, providers=providers), clock)
    site, slurm = bare.site, bare.slurm
    living = Living(
        path=state / "living.json",
        engine=engine,
        slurm=slurm,
        cluster=site.cluster,
        quiet=quiet(site.dead_man),
        clock=clock,
    )
    world = replace(bare, nudge=nudge, promise=living.promise, happened=metrics.happened)
    intents = Intents(
        spool / "intents",
        engine,
        {f"{shape.name}-{number}": shape.name for shape in settings.shapes for number in range(1, shape.nodes + 1)},
        timedelta(seconds=settings.slurm.resume_timeout_s),
        clock,
        metrics.intent,
    )
    tail = metrics.follow(
        engine=engine, credentials=frozenset(providers), image=site.image, jobs_folder=site.jobs_folder, clock=clock
    )
    lost_after = timedelta(seconds=settings.node.lost_after_s)
    trials = Trials(world)
    activities = _activities(world, intents, living, tail, owner, lost_after, trials)
    if settings.signals:
        signals = ReadSignals(make_signals(settings.signals, state / "signals", clock))
        # The sources' own refresh periods say when they are really asked.
        activities.append(Activity(name="read_signals", interval_seconds=60.0, find=signals.find, nudged=False))

    def wake(activity: str) -> None:
        if driver is not None:
            driver.wake(activity)

    granularity = {name: timedelta(seconds=p.bill_granularity_seconds) for name, p in providers.items()}
    billing = _billing(settings, engine, site.shapes, granularity, clock, wake)
    activities.append(Activity(name="meter", interval_seconds=60.0, find=billing.meter.find, nudged=False))
    driver = Driver(map(adapt, activities), clock, done=metrics.done)
    operations = Operations(
        engine=engine,
        slurm=slurm,
        clock=clock,
        version=__version__,
        cluster=settings.site.cluster,
        road=outside.road,
        addresses=site.addresses,
        granularity=granularity,
        only_running=frozenset(name for name, provider in providers.items() if not provider.bills_loading),
        image=site.image,
        lease_logs=site.lease_logs,
        ssh=lambda lease: (
            lease.ssh_port or site.ssh_port.get(lease.provider or "", 22),
            site.ssh_user.get(lease.provider or "", settings.node.ssh_user),
            site.ssh_key_file,
        ),
        health=driver.health,
        nudge=nudge,
        market=Market(
            engine=engine,
            clock=clock,
            shapes=site.shapes,
            providers=frozenset(providers),
            trusted=site.trusted,
            limits=site.limits,
            cpu_arch=site.cpu_arch,
            image=site.image,
            forecast=world.forecast,
        ),
        credentials=Credentials(
            engine=engine,
            clock=clock,
            cluster=site.cluster,
            image=site.image,
            shapes=site.shapes,
            limits=site.limits,
            cpu_arch=site.cpu_arch,
            providers=providers,
            settings=settings.providers,
            clocks=clocks,
            begin_trial=trials.start,
            nudge=nudge,
        ),
    )
    return App(
        api=create_app(
            operations,
            operator_uids(settings.site.operators),
            lambda: (CONTENT_TYPE, metrics.text()),
            _receivers(settings, clock, partial(driver.wake, "sweep")),
            billing.desk,
            billing.webhook,
        ),
        driver=driver,
        engine=engine,
        owner=owner,
        metrics=metrics,
        knock=spool / "knock",
        socket=run / "api.sock",
    )


@dataclass(frozen=True, kw_only=True)
class _Billing:
    desk: Desk
    meter: Meter
    webhook: StripeWebhook | None


def _billing(
    settings: Settings,
    engine: Engine,
    shapes: Mapping[str, Shape],
    granularity: Mapping[str, timedelta],
    clock: Callable[[], datetime],
    wake: Callable[[str], None],
) -> _Billing:
    """What books usage, what operators ask of billing, and what takes Stripe's webhooks."""
    wanted, cluster = settings.billing, settings.site.cluster
    metering = Metering(engine=engine, shapes=shapes, granularity=granularity)
    billing = Billing(engine=engine, clock=clock, metering=metering, currency=wanted.currency)
    cashier = None
    if wanted.stripe is not StripeMode.OFF and wanted.stripe_key is not None:
        cashier = make_cashier(
            engine=engine,
            clock=clock,
            api=StripeApi(wanted.stripe_key.reveal(), wanted.stripe_url),
            cluster=cluster,
            days_until_due=wanted.stripe_days_until_due,
            return_url=wanted.stripe_return_url,
            currency=wanted.currency,
            meters=wanted.stripe is StripeMode.METERS,
        )
    metered = cashier.metered if cashier is not None else None
    if metered is not None:
        metering = replace(metering, told=UsageOutbox(cluster=cluster).tell)
        billing = Billing(
            engine=engine, clock=clock, metering=metering, currency=wanted.currency, check_term=metered.check_term
        )
    secret = wanted.stripe_webhook_secret
    return _Billing(
        desk=Desk(engine=engine, billing=billing, cashier=cashier, mode=wanted.stripe.value),
        meter=Meter(metering, clock, metered),
        webhook=StripeWebhook(engine, secret.reveal(), clock, lambda: wake("meter")) if secret is not None else None,
    )


def _receivers(
    settings: Settings, clock: Callable[[], datetime], look: Callable[[], None]
) -> dict[str, Callable[[Mapping[str, str], bytes], None]]:
    """Credential → what takes the webhooks of its provider."""
    return {
        name: VastWebhook(name, provider.webhook_secret.reveal(), clock, look).receive
        for name, provider in settings.providers.items()
        if provider.webhook_secret is not None
    }


def outside_of(settings: Settings, clock: Callable[[], datetime], hear: Hear = lambda exchange: None) -> Outside:
    """What the configuration names: providers (`hear` is told of each call), slurmctld, the privileged domains, SSH."""
    run = settings.site.run_dir
    road = choose(settings.slurm.road, settings.slurm.conf, settings.slurm.command_timeout_s)
    return Outside(
        providers=make_providers(settings.providers, clock, hear),
        slurm=road.client,
        road=road.why,
        net=PrivilegedClient(run / "net.sock"),
        as_user=PrivilegedClient(run / "as-user.sock"),
        open_shell=open_shell,
        knock=partial(knock, port=_slurmd_port(settings)),
    )


def make_world(settings: Settings, engine: Engine, outside: Outside, clock: Callable[[], datetime]) -> World:
    """What the activities work with, as yet without ears. ConfigError: something the configuration names is missing here."""
    state, spool = settings.site.state_dir, settings.site.spool_dir
    key_file, public_key = client_key(state / "ssh")
    bundle = find_bundle(settings.node.bundle_dir)
    site = Site(
        cluster=settings.site.cluster,
        shapes={shape.name: shape for shape in settings.shapes},
        addresses=settings.overlay.addresses(),
        limits=settings.limits,
        trusted=frozenset(name for name, p in settings.providers.items() if p.trusted),
        boot_timeout={name: timedelta(seconds=p.boot_timeout_s) for name, p in settings.providers.items()},
        ssh_port={name: p.ssh_port for name, p in settings.providers.items()},
        ssh_user={name: p.ssh_user or settings.node.ssh_user for name, p in settings.providers.items()},
        ssh_key_file=key_file,
        ssh_public_key=public_key,
        dead_man=timedelta(seconds=settings.node.dead_man_s),
        cpu_arch=bundle.arch,
        image=bundle.id,
        lease_logs=state / "leases",
        jobs_folder=spool / "jobs",
    )
    return World(
        site=site,
        engine=engine,
        providers=outside.providers,
        slurm=outside.slurm,
        net=outside.net,
        as_user=outside.as_user,
        open_shell=outside.open_shell,
        clock=clock,
        started_at=clock(),
        join_plan=_join_planner(settings, site, bundle, outside.net),
        knock=outside.knock,
        listings=Listings(ticks=outside.ticks),
    )


def _own(engine: Engine) -> Owner:
    try:
        return own(engine)
    except LedgerUnavailable as exc:
        raise ConfigError(f"[site] database: {exc}") from exc


def _refuse_lost_ledger(engine: Engine, logs: Path) -> None:
    """An empty ledger where leases left their logs was lost: going on would end every machine as an orphan."""
    with reading(engine) as db:
        empty = not leases.any_at_all(db)
    if empty and any(logs.glob("l*/boot.log")):
        raise ConfigError(
            f"[site] database: the ledger is empty, but {logs} has the logs of its leases: it was lost. Bring it back with "
            f"`broker ledger restore FILE`; or, to begin anew and end every machine it knew, move {logs} away"
        )


def _activities(
    world: World, intents: Intents, living: Living, tail: Tail, owner: Owner, lost_after: timedelta, trials: Trials
) -> list[Activity]:
    """The intervals are what a lost nudge costs; each nudge after a change makes them look at once."""
    refresh = Refresh(world)
    sweep = Sweep(world, grace=timedelta(seconds=60), wished=intents.wished)
    residues = Residues(world, grace=timedelta(minutes=10))
    watch = Watch(world, lost_after)
    unattended = Unattended(world)
    renewed_s = world.site.dead_man.total_seconds() / 3

    def take_intents() -> list[Task]:
        if intents.take():
            world.nudge()
        return [Task(key="intents:aside", run=intents.trouble)]

    def count_events() -> list[Task]:
        tail.read_on()
        return []

    def keep_ledger() -> list[Task]:
        owner.keep()
        return []

    return [
        Activity(name="ledger", interval_seconds=10.0, find=keep_ledger, nudged=False),
        Activity(name="intents", interval_seconds=1.0, find=take_intents),
        Activity(name="allot", interval_seconds=0.5, find=lambda: allot.find(world)),
        Activity(name="launch", interval_seconds=0.5, find=lambda: launch.find(world)),
        Activity(name="bootstrap", interval_seconds=0.25, find=lambda: bootstrap.find(world)),
        Activity(name="join", interval_seconds=0.25, find=lambda: join.find(world)),
        Activity(name="attend", interval_seconds=1.0, find=lambda: attend.find(world)),
        Activity(name="forget", interval_seconds=10.0, find=lambda: attend.find_forgotten(world), nudged=False),
        Activity(name="unattended", interval_seconds=4.0, find=unattended.find, nudged=False),
        Activity(name="hand_back", interval_seconds=1.0, find=lambda: hand_back.find(world)),
        Activity(name="release", interval_seconds=1.0, find=lambda: release.find(world)),
        Activity(name="trial", interval_seconds=1.0, find=trials.find),
        Activity(name="probe", interval_seconds=60.0, find=lambda: probe.find(world), nudged=False),
        Activity(name="living", interval_seconds=min(30.0, renewed_s), find=living.find, nudged=False),
        Activity(name="renew", interval_seconds=renewed_s, find=lambda: renew.find(world), nudged=False),
        Activity(name="exports", interval_seconds=10.0, find=lambda: exports.find(world), nudged=False),
        Activity(name="overlay", interval_seconds=10.0, find=lambda: overlay.find(world), nudged=False),
        # A look at whose turn it is; how often each credential is read stands in `polling.py`.
        Activity(name="refresh_offers", interval_seconds=5.0, find=refresh.find, nudged=False),
        Activity(name="history", interval_seconds=3600.0, find=lambda: keep_history.find(world), nudged=False),
        # Nobody may ever scrape: then the history still has to be read in small pieces.
        Activity(name="count", interval_seconds=30.0, find=count_events, nudged=False),
        Activity(
            # Each look is a line in slurmd's log: not more often than it takes to decide.
            name="watch",
            interval_seconds=lost_after.total_seconds() / 8,
            find=watch.find,
            nudged=False,
        ),
        Activity(name="rerun", interval_seconds=1.0, find=lambda: lost.find(world)),
        # A notice that a machine is taken away comes by this listing, and may be given half a minute before.
        Activity(name="residue", interval_seconds=300.0, find=residues.find, nudged=False),
        Activity(name="sweep", interval_seconds=15.0, find=sweep.find, nudged=False),
    ]


def _join_planner(settings: Settings, site: Site, bundle: Bundle, net: NetDomain) -> Callable[[Lease], JoinPlan]:
    export_host_key = _read("node.export_host_key", settings.node.export_host_key).decode().strip()
    needs = node_needs(read(read_inlined(settings.slurm.conf).text))
    munge_key = _read("node.munge_key", settings.node.munge_key)

    def plan(lease: Lease) -> JoinPlan:
        hub = net.hub()
        return JoinPlan(
            node=lease.node,
            shape=site.shapes[lease.shape],
            address=site.addresses[lease.node],
            cidr=settings.overlay.cidr,
            mtu=settings.overlay.mtu,
            interface=settings.overlay.interface,
            hub=settings.overlay.hub,
            hub_public_key=hub.public_key,
            hub_endpoint=settings.overlay.endpoint,
            export_host_key=export_host_key,
            export_port=settings.node.export_port,
            hosts={name: str(settings.overlay.hub) for name in needs.controllers},
            slurmd_folders=needs.folders,
            task_prolog=(f"{settings.slurm.plugin_dir}/task_prolog.sh", task_prolog(settings.overlay.interface)),
            bundle=bundle,
            munge_key=munge_key if lease.provider in site.trusted else None,
            dead_man=site.dead_man,
        )

    return plan


def _slurmd_port(settings: Settings) -> int:
    own = read(read_inlined(settings.slurm.conf).text).value("SlurmdPort")
    return int(own.text) if own is not None and own.text.isdecimal() else SLURMD_PORT


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{key} = {path}: {exc.strerror}; the daemon's user must be able to read it") from exc
