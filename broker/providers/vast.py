"""Vast.ai: VMs on strangers' machines, on demand or by bid. Contract: its OpenAPI of August 2026; quirks are named where they
are handled. `vast_offers.py` and `vast_instances.py` read what it answers, `vast_http.py` asks it."""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import httpx

from broker.core.errors import (
    InstanceNotFound,
    NoCapacity,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
)
from broker.core.offers import CapacityType, Instance, InstanceSpec, InstanceState, Reading
from broker.providers.http import Pace
from broker.providers.vast_http import LONGEST_PAUSE_SECONDS, Endpoint, Refusal, VastWire, contract_of
from broker.providers.vast_instances import COLUMNS, read_instance, read_notices
from broker.providers.vast_offers import (
    MARKETS,
    Unusable,
    ask_of,
    ask_price,
    disk_cost,
    disk_gb,
    instance_type,
    read_offers,
    rows_of,
)

log = logging.getLogger("broker.vast")

BASE_URL = "https://console.vast.ai"
_PUBLISHED = Pace()
_ROWS = 5000
"""So many asks are asked for; where so many come, there may be more."""
_PAGE = 25
_PAGES = 400
_ONSTART_BYTES = 4096
_NOTICES_SECONDS = 300.0
"""Hosts give days of notice; each look costs a call of its own."""
_TOLERANCE = Decimal("1.01")
"""Prices come as floats, and disks are sold in other units than we reckon in."""
_CENT = Decimal("0.00001")


class VastProvider:
    """One Vast credential. `image`: the VM image, as Vast's console spells it, with its registry in front: without that,
    Vast rents a container out of a VM's offer and says nothing.

    `regions`: zones, or countries, that may be bought in; empty: all.
    """

    visibility_lag_seconds = 40.0
    bill_granularity_seconds = 1
    bills_loading = False
    power_off_stops_billing = False
    """A VM that is off is a stopped contract: its GPUs are free, its disk is charged on."""

    def __init__(
        self,
        name: str,
        http: httpx.Client,
        clock: Callable[[], datetime],
        *,
        image: str,
        regions: frozenset[str] = frozenset(),
        pace: Pace = _PUBLISHED,
        sleep: Callable[[float], None] = time.sleep,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._clock = clock
        self._image = image
        self._regions = regions
        self._ticks = ticks
        self._wire = VastWire(name, http, clock, pace=pace, sleep=sleep, ticks=ticks)
        self._registered_key: str | None = None
        self._notices: dict[str, str] = {}
        self._notices_at = float("-inf")

    def offers(self) -> Reading:
        """VMs of both markets. Vast lists what can be had: what is sold out is not there."""
        readings = []
        complete = True
        for market in MARKETS:
            rows = self._search(market, {})
            complete = complete and len(rows) < _ROWS
            readings.append(read_offers(rows, market, self.name, self._regions, self._clock()))
        return Reading(
            offers=tuple(offer for reading in readings for offer in reading.offers),
            left_out=tuple(row for reading in readings for row in reading.left_out),
            complete=complete,
        )

    def create(self, spec: InstanceSpec) -> Instance:
        """Rent the machine's cheapest ask, looked up afresh: ask ids do not last.

        What came of it is looked at before it is believed: a bid that Vast took for on-demand, or a machine dearer than
        shown, is ended again and refused.
        """
        self._register(spec.ssh_public_key)
        row = self._ask_for(spec)
        size = disk_gb(spec.disk_gib)
        body: dict[str, Any] = {
            "image": self._image,
            "label": spec.label,
            "disk": size,
            "runtype": "ssh_direct",
            "target_state": "running",
            "cancel_unavail": True,
            "vm": True,
            "onstart": spec.user_data,
        }
        if spec.capacity_type is CapacityType.SPOT:
            # Without a price Vast rents on demand, also what was found by a search for bids, and does not say so.
            body["price"] = float(_bid(row, spec, size))
        answer = self._wire.ask(Endpoint.CREATE, "PUT", f"/v0/asks/{ask_of(row)}/", json=body, lost=OutcomeUnknown)
        if isinstance(answer, Refusal):
            if answer.contract is not None:
                self._end_at_once(str(answer.contract), f"refused, and rented all the same: {answer.error}")
            if "no_ssh_key_for_vm" in str(answer.error):
                self._registered_key = None  # somebody removed it from the account
            raise answer.error
        contract = contract_of(answer)
        if contract is None:
            raise OutcomeUnknown(f"{self.name}: the create was answered without a contract's id")
        return self._verified(str(contract), spec)

    def delete(self, instance_id: str) -> None:
        if not (instance_id.isascii() and instance_id.isdecimal()):
            raise InstanceNotFound(f"{self.name}: {instance_id} is no contract of Vast's")
        answer = self._wire.call(Endpoint.DESTROY, "DELETE", f"/v0/instances/{instance_id}/")
        if not isinstance(answer, dict) or answer.get("success") is not True:
            raise ProviderUnavailable(f"{self.name}: the end of {instance_id} was answered without `success`")

    def instance(self, instance_id: str) -> Instance:
        found = self._show(instance_id)
        if found.state is InstanceState.RUNNING and found.address is None:
            # One record's ports are bare numbers; only the listing says which of them is SSH's.
            listed = self._page({"limit": "1", "select_filters": json.dumps({"id": {"eq": int(instance_id)}})})[0]
            return next((row for row in listed if row.id == instance_id), found)
        return found

    def instances(self) -> list[Instance]:
        self._look_for_notices()
        found: dict[str, Instance] = {}
        params = {"limit": str(_PAGE)}
        tokens: set[str] = set()
        for _ in range(_PAGES):
            page, token = self._page(params)
            found |= {instance.id: instance for instance in page}
            if token is None:
                return list(found.values())
            if token in tokens:
                break
            tokens.add(token)
            params["after_token"] = token
        # Half a listing would say of living machines that they are gone.
        raise ProviderUnavailable(f"{self.name}: the listing of instances does not end")

    def create_wait_seconds(self, queued: int = 0) -> float:
        # Each create looks its ask up, so the search's limit is its limit, too.
        create, search = (self._wire.wait_seconds(each, queued) for each in (Endpoint.CREATE, Endpoint.SEARCH))
        return create if self._is_closed() else max(create, search)

    def reserve_create(self) -> bool:
        # Where the day's searches are used up nobody waits for the next: the create is tried, and says so.
        ready = self._wire.wait_seconds(Endpoint.SEARCH) == 0 or self._is_closed()
        return ready and self._wire.try_take(Endpoint.CREATE)

    def _is_closed(self) -> bool:
        return self._wire.wait_seconds(Endpoint.SEARCH) > LONGEST_PAUSE_SECONDS

    def _search(self, market: CapacityType, more: Mapping[str, Any]) -> list[object]:
        query: dict[str, Any] = {
            "type": MARKETS[market],
            "limit": _ROWS,
            "verified": {"eq": True},
            "external": {"eq": False},
            "rentable": {"eq": True},
            "rented": {"eq": False},
            "vms_enabled": {"eq": True},
            "order": [["dph_total", "asc"], ["id", "asc"]],
            **more,
        }
        answer = self._wire.call(Endpoint.SEARCH, "POST", "/v0/bundles/", json=query)
        try:
            return rows_of(answer)
        except ValueError as exc:
            raise ProviderUnavailable(f"{self.name}: the search for offers was answered without a list: {exc}") from exc

    def _ask_for(self, spec: InstanceSpec) -> Mapping[str, Any]:
        """The cheapest ask for the machine and GPUs of `spec`. NoCapacity: rented meanwhile, or dearer than shown."""
        machine, _, gpus = spec.instance_type.partition("x")
        if not machine.isdecimal() or not gpus.isdecimal():
            raise ProviderError(f"{self.name}: {spec.instance_type} is no machine of Vast's with a number of GPUs")
        if len(spec.user_data.encode()) > _ONSTART_BYTES:
            raise ProviderError(f"{self.name}: Vast takes {_ONSTART_BYTES} bytes of user data at most")
        try:
            rows = self._search(spec.capacity_type, {"machine_id": {"eq": int(machine)}, "num_gpus": {"eq": int(gpus)}})
        except RateLimited as exc:
            if exc.retry_after > LONGEST_PAUSE_SECONDS:
                raise QuotaExceeded(f"{self.name}: the day's searches are used up: {exc}") from exc
            raise
        size, found = disk_gb(spec.disk_gib), []
        for row in rows:
            with contextlib.suppress(Unusable):
                if isinstance(row, dict) and instance_type(row.get("machine_id"), int(gpus)) == spec.instance_type:
                    ask_of(row)
                    found.append((ask_price(row, spec.capacity_type) + disk_cost(row, size), row))
        if not found:
            raise NoCapacity(f"{self.name}: nobody offers {spec.instance_type} as {spec.capacity_type} any more")
        price, cheapest = min(found, key=lambda each: each[0])
        if spec.price_per_hour is not None and price > spec.price_per_hour * _TOLERANCE:
            raise NoCapacity(
                f"{self.name}: {spec.instance_type} costs {price.quantize(_CENT)} USD/h now, "
                f"{spec.price_per_hour.quantize(_CENT)} were shown"
            )
        return cheapest

    def _verified(self, contract: str, spec: InstanceSpec) -> Instance:
        """What was bought, as Vast shows it, or as it was ordered where it shows nothing yet."""
        try:
            seen = self._show(contract)
        except ProviderError as exc:
            log.info("provider=%s instance=%s is not seen yet: %s", self.name, contract, exc)
            return Instance(
                id=contract,
                label=spec.label,
                state=InstanceState.STARTING,
                raw_state="created",
                address=None,
                instance_type=spec.instance_type,
                zone=spec.zone,
                price_per_hour=None,
                machine=spec.machine,
            )
        if seen.capacity_type is not None and seen.capacity_type is not spec.capacity_type:
            self._end_at_once(contract, f"rented as {seen.capacity_type}, not as {spec.capacity_type}")
            raise ProviderError(
                f"{self.name}: {spec.instance_type} was rented as {seen.capacity_type}; it is ended again"
            )
        if seen.state is InstanceState.STOPPED:
            self._end_at_once(contract, f"rented, but {seen.raw_state}")
            raise NoCapacity(f"{self.name}: {spec.instance_type} was rented and did not start: {seen.raw_state}")
        dearest = None if spec.price_per_hour is None else spec.price_per_hour * _TOLERANCE
        if dearest is not None and seen.price_per_hour is not None and seen.price_per_hour > dearest:
            self._end_at_once(contract, f"it costs {seen.price_per_hour} USD/h")
            raise NoCapacity(
                f"{self.name}: {spec.instance_type} was rented at {seen.price_per_hour} USD/h, "
                f"{spec.price_per_hour} were shown; it is ended again"
            )
        return seen

    def _end_at_once(self, contract: str, why: str) -> None:
        """OutcomeUnknown: it may still be there; its label finds it, and whoever finds it ends it."""
        log.warning("provider=%s instance=%s is ended at once: %s", self.name, contract, why)
        try:
            self.delete(contract)
        except InstanceNotFound:
            return
        except ProviderError as exc:
            raise OutcomeUnknown(
                f"{self.name}: instance {contract} is not wanted ({why}) and not ended yet: {exc}"
            ) from exc

    def _show(self, instance_id: str) -> Instance:
        if not (instance_id.isascii() and instance_id.isdecimal()):
            raise InstanceNotFound(f"{self.name}: {instance_id} is no contract of Vast's")
        answer = self._wire.call(Endpoint.SHOW, "GET", f"/v0/instances/{instance_id}/")
        if not isinstance(answer, dict) or "instances" not in answer:
            raise ProviderUnavailable(f"{self.name}: instance {instance_id} was answered without `instances`")
        if answer["instances"] is None:
            raise InstanceNotFound(f"{self.name}: no instance {instance_id}")
        found = self._read(answer["instances"])
        if found.id != instance_id:
            raise ProviderUnavailable(f"{self.name}: asked for instance {instance_id}, answered with {found.id}")
        return found

    def _page(self, params: Mapping[str, str]) -> tuple[list[Instance], str | None]:
        query = {**params, "select_cols": json.dumps(COLUMNS), "order_by": '[{"col": "id", "dir": "asc"}]'}
        answer = self._wire.call(Endpoint.LIST, "GET", "/v1/instances/", params=query)
        rows = answer.get("instances") if isinstance(answer, dict) else None
        if not isinstance(rows, list):
            raise ProviderUnavailable(f"{self.name}: instances is {type(rows).__name__}, not a list")
        token = answer.get("next_token")
        if token is not None and not isinstance(token, str):
            raise ProviderUnavailable(f"{self.name}: the listing's next page is named by {type(token).__name__}")
        return [self._read(row) for row in rows], token or None

    def _read(self, row: object) -> Instance:
        try:
            return read_instance(row, self._notices)
        except ValueError as exc:
            raise ProviderUnavailable(f"{self.name}: {exc}") from exc

    def _look_for_notices(self) -> None:
        now = self._ticks()
        if now - self._notices_at < _NOTICES_SECONDS:
            return
        self._notices_at = now
        try:
            self._notices = read_notices(
                self._wire.call(Endpoint.PRICES, "GET", "/v0/instances/pending-price-increases/")
            )
        except (ProviderUnavailable, RateLimited) as exc:
            log.info("provider=%s tells no price rises: %s", self.name, exc)
        except ProviderError as exc:
            # A key whose scope lacks this one permission must not hide the machines.
            log.warning("provider=%s refuses to tell price rises: %s", self.name, exc)

    def _register(self, public_key: str) -> None:
        """VMs get the account's keys, at their making only: attached later, a key does not reach them."""
        wanted = public_key.split()[1]
        if self._registered_key == wanted:
            return
        if not self._is_listed(wanted):
            try:
                self._wire.call(Endpoint.KEYS, "POST", "/v0/ssh/", json={"ssh_key": public_key})
            except ProviderError:
                # Another of our creates may have added it in the same moment; else the refusal stands.
                if not self._is_listed(wanted):
                    raise
        self._registered_key = wanted

    def _is_listed(self, wanted: str) -> bool:
        try:
            rows = self._wire.call(Endpoint.KEYS, "GET", "/v0/ssh/")
        except InstanceNotFound:  # an account without keys may be answered with 404
            return False
        # `key` in one part of Vast's documentation, `public_key` in the other.
        texts = [str(row.get("public_key") or row.get("key") or "") for row in _dicts(rows)]
        return any(text.split()[1:2] == [wanted] for text in texts)


def _dicts(rows: object) -> list[dict[str, Any]]:
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _bid(row: Mapping[str, Any], spec: InstanceSpec, size_gb: int) -> Decimal:
    """What was shown, less the disk: no less than what wins now, which was looked at before."""
    least = ask_price(row, CapacityType.SPOT)
    if spec.price_per_hour is None:
        return least
    shown = (spec.price_per_hour - disk_cost(row, size_gb)).quantize(_CENT, ROUND_FLOOR)
    return max(least, shown)
