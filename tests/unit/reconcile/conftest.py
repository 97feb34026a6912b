import contextlib
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from factories import Clock, a_shape, an_offer

from broker.core.blocks import Block
from broker.core.demand import Limits
from broker.core.errors import NodeUnreachable, StepFailed
from broker.core.leases import Lease
from broker.db import blocks, leases, offers
from broker.db.engine import reading
from broker.privileged.fake import FakeAsUser, FakeNet, home_of
from broker.providers.fake import FakeProvider
from broker.provisioning.bundle import Bundle
from broker.provisioning.fake import FakeMachine, FakeMachines, facts_of
from broker.provisioning.steps import JoinPlan
from broker.reconcile import allot, attend, bootstrap, hand_back, join, launch, release
from broker.reconcile.world import Listings, Site, World
from broker.services import purchases
from broker.slurm.fake import FakeSlurm


@dataclass
class Rig:
    """A world of fakes behind a real ledger; `step` runs every activity once, in the order of a node's life."""

    world: World
    clock: Clock
    slurm: FakeSlurm
    net: FakeNet
    as_user: FakeAsUser
    machines: FakeMachines
    providers: dict[str, FakeProvider]

    def ask(self, node: str = "h100-1", job_id: int | None = 7) -> Lease:
        with self.world.engine.begin() as db:
            return purchases.request(
                db,
                node=node,
                shape="h100",
                job_id=job_id,
                request_id=f"r-{node}",
                at=self.clock(),
                deadline=self.clock() + timedelta(minutes=25),
                now=self.clock(),
            )

    def step(self, *activities) -> None:
        for activity in activities or (allot, launch, hand_back, bootstrap, join, attend, release):
            for task in list(activity.find(self.world)):
                # As the driver does: one machine's trouble stops nobody else.
                with contextlib.suppress(NodeUnreachable, StepFailed):
                    task.run()
        self.clock.pass_seconds(3)

    def until(self, reached, steps: int = 40) -> None:
        for _ in range(steps):
            if reached():
                return
            self.step()
        raise AssertionError(f"not reached in {steps} steps: {[(x.state, x.reason) for x in self.ledger()]}")

    def ledger(self) -> list[Lease]:
        with self.world.engine.begin() as db:
            return leases.all_leases(db)

    def states(self) -> list[str]:
        return [str(lease.state) for lease in self.ledger()]

    def sell(self, *on_sale) -> None:
        with self.world.engine.begin() as db:
            for name in self.providers:
                offers.replace_all(db, name, [offer for offer in on_sale if offer.provider == name])

    def blocks(self, provider: str) -> list[Block]:
        with reading(self.world.engine) as db:
            return blocks.current(db, provider)

    def instances(self) -> list[str]:
        return [i.id for provider in self.providers.values() for i in provider.instances()]


@pytest.fixture
def rig(engine, tmp_path) -> Rig:
    clock = Clock()
    shape = a_shape()
    on_sale = [an_offer(), an_offer(provider="lambda-b")]
    providers = {name: FakeProvider(name, lambda: on_sale) for name in ("lambda-a", "lambda-b")}
    slurm, net, as_user = FakeSlurm(), FakeNet(), FakeAsUser(home_of("alice", 1001), home_of("bob", 1002))
    machines = FakeMachines(
        {
            f"192.0.2.{number}": FakeMachine(
                outputs={"facts": facts_of(shape, epoch=clock().timestamp()) | {"arch": "x86_64"}}
            )
            for number in range(1, 9)
        }
    )
    jobs_folder = tmp_path / "jobs"
    jobs_folder.mkdir()
    site = Site(
        cluster="test",
        shapes={"h100": shape},
        addresses={f"h100-{n}": IPv4Address(f"10.77.0.{n + 1}") for n in range(1, 5)},
        limits=Limits(),
        trusted=frozenset(providers),
        boot_timeout={name: timedelta(minutes=20) for name in providers},
        ssh_port=dict.fromkeys(providers, 22),
        ssh_user={"lambda-a": "ubuntu", "lambda-b": "ubuntu"},
        ssh_key_file=tmp_path / "key",
        ssh_public_key="ssh-ed25519 AAAA broker",
        dead_man=timedelta(minutes=15),
        cpu_arch="x86_64",
        image="0" * 12,
        lease_logs=tmp_path / "leases",
        jobs_folder=jobs_folder,
    )
    world = World(
        site=site,
        engine=engine,
        providers=providers,
        slurm=slurm,
        net=net,
        as_user=as_user,
        open_shell=machines,
        clock=clock,
        started_at=clock(),
        join_plan=lambda lease: a_plan(lease, shape, site),
        listings=Listings(seconds=0),
    )
    rig = Rig(world, clock, slurm, net, as_user, machines, providers)
    rig.sell(*on_sale)
    for number in range(1, 5):
        slurm.set_node(f"h100-{number}", "ALLOCATED", "CLOUD", "POWERING_UP", "NOT_RESPONDING")
    return rig


def a_plan(lease: Lease, shape, site: Site) -> JoinPlan:
    bundle = Bundle(
        path=Path("/bundle.tar.gz"),
        sha256="0" * 64,
        size_bytes=1,
        id="0" * 12,
        prefix="/opt/broker/bundle-000000000000",
        arch="x86_64",
        slurm_version="22.05.8",
        plugin_dir="/usr/lib/x86_64-linux-gnu/slurm-wlm",
        slurm=None,
        munge=None,
        commands=("srun",),
        command_dir="/usr/bin",
    )
    return JoinPlan(
        node=lease.node,
        shape=shape,
        address=site.addresses[lease.node],
        cidr=IPv4Network("10.77.0.0/16"),
        hub=IPv4Address("10.77.0.1"),
        hub_public_key="aHViJ3Mgd2lyZWd1YXJkIGtleSBmb3IgdGVzdHMhISE=",
        hub_endpoint="192.0.2.254:51820",
        export_host_key="ssh-ed25519 AAAA export",
        bundle=bundle,
        munge_key=b"k" * 128,
        dead_man=site.dead_man,
    )
