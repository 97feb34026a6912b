"""An emulated Vast.ai: its state and its rules. `vast_http.py` puts HTTP around it, a `Machines` gives it hosts."""

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.core.errors import BrokerError
from broker.sandbox.emulators.faults import CALL_FAULTS, REFUSALS, VAST_FAULTS, Call, Fault, take
from broker.sandbox.emulators.faults import RENT_PATH as ASKS_PATH
from broker.sandbox.emulators.machines import Machines
from broker.sandbox.emulators.vast_contract import Order, VastContract
from broker.sandbox.emulators.vast_errors import (
    invalid,
    no_credit,
    no_instance,
    no_such_ask,
    refused,
    too_frequent,
    wrong_key,
)
from broker.sandbox.emulators.vast_market import (
    ASK_SECONDS,
    VastMachine,
    ask,
    ask_id,
    find,
    market_of,
    shipped_machines,
)

_THRESHOLDS: Mapping[tuple[str, str], float] = {
    ("POST", "/v0/bundles/"): 6.0,
    ("PUT", ASKS_PATH): 4.5,
    ("DELETE", "/v0/instances/"): 3.0,
    ("GET", "/v0/instances/pending-price-increases/"): 2.0,
    ("GET", "/v0/instances/"): 2.0,
    ("GET", "/v1/instances/"): 1.0,
    ("GET", "/v0/ssh/"): 1.0,
    ("POST", "/v0/ssh/"): 1.0,
}
"""(method, beginning of the path) → least seconds between two calls of one account."""
_JITTER_SECONDS = 0.3
_RESUMES_SECONDS = 15.0
"""After which an outbid contract wins again, unless it was destroyed."""
_OTHERS_BID_SECONDS = 300.0
_FIELDS = frozenset(
    [
        *(
            "image",
            "template_hash_id",
            "label",
            "disk",
            "runtype",
            "target_state",
            "price",
            "env",
            "cancel_unavail",
            "vm",
        ),
        *("onstart", "args", "args_str", "use_jupyter_lab", "jupyter_dir", "python_utf8", "lang_utf8", "force", "user"),
        *("image_login", "volume_info"),
    ]
)


@dataclass
class _Account:
    name: str
    keys: list[dict[str, Any]] = field(default_factory=list)
    last: dict[tuple[str, str], float] = field(default_factory=dict)

    def count(self, method: str, path: str, now: float) -> None:
        """VastError: too soon after the last call of this endpoint; it is not counted."""
        endpoint = next((each for each in _THRESHOLDS if each[0] == method and path.startswith(each[1])), None)
        if endpoint is None:
            return
        if now < self.last.get(endpoint, float("-inf")) + _THRESHOLDS[endpoint] - _JITTER_SECONDS:
            raise too_frequent(path, method, _THRESHOLDS[endpoint])
        self.last[endpoint] = now


class VastCloud:
    """`accounts`: API key → credential name. `clock`: seconds. `limits`: `published` or `off`.

    Methods that take a `key` want one that `enter` let in. VastError: the answer is no.
    """

    def __init__(
        self,
        accounts: Mapping[str, str],
        machines: Machines,
        clock: Callable[[], float],
        *,
        boot_seconds: float = 3.0,
        limits: str = "published",
        selling: Iterable[VastMachine] | None = None,
    ) -> None:
        self._accounts = {key: _Account(name) for key, name in accounts.items()}
        self.credentials = frozenset(accounts.values())
        self._machines = machines
        self._clock = clock
        self.boot_seconds = boot_seconds
        self.limits = limits
        self.faults: list[Fault] = []
        self._selling = list(shipped_machines() if selling is None else selling)
        self._contracts: dict[int, VastContract] = {}
        self._bill: list[VastContract] = []
        self._outbid_at: dict[int, float] = {}
        self._numbers = itertools.count(7_100_001)
        self._lock = threading.RLock()

    def enter(self, key: str | None, method: str, path: str) -> str:
        """The key itself. VastError: it is unknown, or its account calls too often."""
        with self._lock:
            account = self._accounts.get(key or "")
            if account is None:
                raise wrong_key(path)
            if self.limits == "published":
                account.count(method, path, self._clock())
            return key or ""

    def fault(self, key: str, method: str, path: str) -> Fault | None:
        """The misbehaviour of this call, if it is due one of those that any call may show."""
        with self._lock:
            return take(self.faults, CALL_FAULTS, Call(credential=self._name(key), path=path, method=method))

    def search(self, key: str, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Asks for GPUs that nobody has rented."""
        market, storage = market_of(query), query.get("allocated_storage", 10)
        storage = float(storage) if isinstance(storage, int | float) else 10.0
        with self._lock:
            now = self._clock()
            rows = [
                ask(machine, gpus, market, now, storage, self._least_bid(machine, gpus, now))
                for machine in self._selling
                for gpus in machine.sold
                if gpus <= self._free(machine)
            ]
        # What the search asks for by itself, where the query says nothing of it.
        return find(rows, {"verified": {"eq": True}, "rentable": {"eq": True}, "rented": {"eq": False}, **query})

    def rent(self, key: str, number: int, body: Mapping[str, Any]) -> VastContract:
        """Rent. Its `faults` say what is to become of the answer."""
        with self._lock:
            now, account = self._clock(), self._accounts[key]
            machine, gpus = self._asked(number, now)
            order = self._order(account, machine, gpus, number, body)
            call = Call(
                credential=account.name,
                path=f"{ASKS_PATH}{number}/",
                instance_type=f"{machine.id}x{gpus}",
                region=machine.geolocation,
                method="PUT",
            )
            refusal = next((kind for kind in REFUSALS if take(self.faults, {kind}, call)), None)
            if refusal == "quota":
                raise no_credit(number)
            if refusal == "sold_out" or gpus > self._free(machine):
                raise no_such_ask(number)
            due = [take(self.faults, {kind}, call) for kind in VAST_FAULTS if kind not in REFUSALS]
            faults = {fault.kind: fault.seconds or 0.0 for fault in due if fault is not None}
            contract = self._add(account, order, faults, now)
            least = self._least_bid(machine, gpus, now)
            if "refused_with_id" in faults or (order.bid is not None and order.bid < least):
                contract.stopped_at = now
                raise refused(
                    400,
                    "invalid_price",
                    f"error 400/3601: bid below {least}",
                    ask_id=number,
                    new_contract=contract.id,
                )
            return contract

    def tick(self) -> None:
        """Power on what has booted for long enough; outbid, resume and lose what is to be."""
        with self._lock:
            now = self._clock()
            for contract in list(self._contracts.values()):
                if contract.vanishes(now):
                    self.vanish(str(contract.id))
                elif contract.is_outbid(now):
                    self.preempt(str(contract.id))
                elif contract.stopped_at is not None:
                    if contract.is_bid and contract.boots and now >= contract.stopped_at + _RESUMES_SECONDS:
                        contract.stopped_at, contract.booting_since = None, now
                elif not contract.is_on and now >= contract.booting_since + self.boot_seconds:
                    self._boot(contract, now)

    def listed(self, key: str, params: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int, int | None]:
        """A page of the account's contracts, how many there are, and the id after which the next page begins."""
        limit, after = params["limit"], params["after"]
        with self._lock:
            now, name = self._clock(), self._name(key)
            mine = [
                contract
                for contract in sorted(self._contracts.values(), key=lambda each: each.id)
                if contract.credential == name and contract.is_listed(now)
            ]
        rows = find([each.listed() for each in mine], {**params["filters"], "limit": len(mine)})
        rest = [row for row in rows if after is None or row["id"] > after]
        page = rest[:limit]
        return page, len(rows), page[-1]["id"] if len(rest) > limit else None

    def shown(self, key: str, number: int) -> dict[str, Any] | None:
        """None: there is no such contract of the account."""
        with self._lock:
            contract = self._contracts.get(number)
            if contract is None or contract.credential != self._name(key):
                return None
            return contract.shown()

    def destroy(self, key: str, number: int) -> None:
        """End a contract."""
        with self._lock:
            self._end(self._own(key, number))

    def rises(self, key: str) -> list[dict[str, Any]]:
        """What hosts ask for beyond the contract's price."""
        with self._lock:
            return [
                {
                    "pending_price_increase_id": 900 + number % 100,
                    "contract_id": number,
                    "host_id": contract.order.machine.host_id,
                    "new_gpu_costpersec": contract.dph_base * 2 / 3600,
                    "old_gpu_costpersec": contract.dph_base / 3600,
                    "contract_end_date": contract.created_at + contract.order.machine.days * 86400.0,
                    "created_at": self._clock(),
                }
                for number, contract in self._contracts.items()
                if "price_rise" in contract.faults and contract.credential == self._name(key)
            ]

    def keys(self, key: str) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._accounts[key].keys)

    def add_key(self, key: str, public_key: object) -> dict[str, Any]:
        if not isinstance(public_key, str) or len(public_key.split()) < 2:
            raise refused(400, "no_ssh_key", "No ssh key provided")
        with self._lock:
            row = {"id": next(self._numbers), "user_id": 456, "public_key": public_key}
            self._accounts[key].keys.append(row)
            return row

    def vanish(self, instance_id: str) -> None:
        """The provider loses a machine without a word. KeyError: there is no such contract."""
        with self._lock:
            self._end(self._contracts[_number(instance_id)])

    def preempt(self, instance_id: str) -> None:
        """The machine is outbid, without notice: off at once, and on again when its bid wins. KeyError: as above."""
        with self._lock:
            contract = self._contracts[_number(instance_id)]
            if contract.stopped_at is None:
                self._off(contract)
                contract.stopped_at = self._outbid_at[contract.order.machine.id] = self._clock()

    def bill(self) -> list[dict[str, Any]]:
        """The provider's own bill, every contract ever made."""
        with self._lock:
            return [contract.bill(self._clock()) for contract in self._bill]

    def living(self) -> list[str]:
        """Ids of contracts that cost money now: a stopped one does, too."""
        with self._lock:
            return [str(number) for number in self._contracts]

    def _asked(self, number: int, now: float) -> tuple[VastMachine, int]:
        """What the ask is for: this minute's, or the last one's."""
        for machine in self._selling:
            for gpus in machine.sold:
                if number in {ask_id(machine, gpus, at) for at in (now, now - ASK_SECONDS)}:
                    return machine, gpus
        raise no_such_ask(number)

    def _order(self, account: _Account, machine: VastMachine, gpus: int, number: int, body: Mapping[str, Any]) -> Order:
        """A create's body, checked as the OpenAPI says."""
        if unknown := sorted(set(body) - _FIELDS):
            raise invalid(f"unknown {', '.join(unknown)[:100]}", ask_id=number)
        image, label, onstart = body.get("image"), body.get("label"), body.get("onstart", "")
        if not isinstance(image, str) or not 1 <= len(image) <= 1024:
            raise invalid("'image' is required", ask_id=number)
        if not isinstance(label, str | None) or len(label or "") > 256:
            raise invalid("'label' has at most 256 characters", ask_id=number)
        if not isinstance(onstart, str) or len(onstart) > 4096:
            raise invalid("'onstart' and args have at most 4096 characters", ask_id=number)
        disk, price = body.get("disk", 10), body.get("price")
        if not _is_number(disk) or not 8 <= disk <= machine.disk_space:
            raise invalid("'disk' is a number of GB from 8 on", ask_id=number)
        if price is not None and (not _is_number(price) or not 0.001 <= price <= 128):
            raise refused(400, "invalid_price", "price must be between 0.001 and 128", ask_id=number)
        # Without its registry in front, a VM's image is run as a container, and nobody says so.
        vm = body.get("vm") is True and "." in image.partition("/")[0]
        if vm and not machine.vms_enabled:
            raise invalid("this machine runs no VMs", ask_id=number)
        if vm and not account.keys:
            raise refused(400, "no_ssh_key_for_vm", "add an SSH key to your account first", ask_id=number)
        bid = None if price is None else float(price)
        return Order(
            machine=machine, gpus=gpus, bid=bid, disk_gb=float(disk), image=image, vm=vm, label=label, onstart=onstart
        )

    def _add(self, account: _Account, order: Order, faults: Mapping[str, float], now: float) -> VastContract:
        is_bid = order.bid is not None and "on_demand" not in faults
        base = order.bid if is_bid and order.bid is not None else order.machine.dph_gpu * order.gpus
        contract = VastContract(
            id=next(self._numbers),
            credential=account.name,
            order=order,
            is_bid=is_bid,
            dph_base=round(base * (1.5 if "dearer" in faults else 1.0), 6),
            public_keys=tuple(row["public_key"] for row in account.keys),
            created_at=now,
            faults=faults,
            booting_since=now,
        )
        self._contracts[contract.id] = contract
        self._bill.append(contract)
        return contract

    def _boot(self, contract: VastContract, now: float) -> None:
        if "never_active" in contract.faults:
            return
        contract.boots += 1
        try:
            contract.address = self._machines.address(contract.host)
        except BrokerError:
            contract.boots -= 1
            return
        contract.runs.append((now, None))
        # Under the lock, so that an end cannot come between: its stop must follow this start.
        if contract.order.vm:
            self._machines.start(contract.machine())

    def _off(self, contract: VastContract) -> None:
        if contract.is_on:
            contract.runs[-1] = (contract.runs[-1][0], self._clock())
            self._machines.stop(contract.host)

    def _end(self, contract: VastContract) -> None:
        self._off(contract)
        contract.ended_at = self._clock()
        del self._contracts[contract.id]

    def _own(self, key: str, number: int) -> VastContract:
        contract = self._contracts.get(number)
        if contract is None or contract.credential != self._name(key):
            raise no_instance()
        return contract

    def _least_bid(self, machine: VastMachine, gpus: int, now: float) -> float:
        """Somebody bids half as much again while they hold what they won."""
        taken = now < self._outbid_at.get(machine.id, float("-inf")) + _OTHERS_BID_SECONDS
        return round(machine.bid_gpu * gpus * (1.5 if taken else 1.0), 6)

    def _free(self, machine: VastMachine) -> int:
        # A stopped bid gives its GPUs to whoever bid more.
        rented = sum(
            contract.order.gpus
            for contract in self._contracts.values()
            if contract.order.machine.id == machine.id and contract.stopped_at is None
        )
        return machine.gpus - rented

    def _name(self, key: str) -> str:
        return self._accounts[key].name


def _number(instance_id: str) -> int:
    if not instance_id.isdecimal():
        raise KeyError(instance_id)
    return int(instance_id)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
