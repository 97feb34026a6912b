"""Vast's contracts as instances: the four fields of their state folded into one, and the way to their SSH. Pure."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from broker.core.offers import CapacityType, Instance, InstanceState
from broker.providers.vast_offers import ABSURD_USD, instance_type, number, zone

COLUMNS = (
    *("id", "label", "actual_status", "intended_status", "cur_state", "next_state", "status_msg", "is_bid"),
    *("public_ipaddr", "ports", "machine_id", "num_gpus", "geolocation", "dph_total", "end_date"),
)
"""What a listing asks for. The rest of a record holds what no log should (its Jupyter token, its user data)."""
_COMING = frozenset({None, "created", "loading", "scheduling"})
_OFF = frozenset({"exited", "stopped", "frozen"})
_FAILED = re.compile(r"OCI runtime create failed|error (creating|starting) (vm|instance)|no such image", re.IGNORECASE)


def read_instance(row: object, notices: Mapping[str, str]) -> Instance:
    """One record. ValueError: it has no id. `notices`: instance id → what its host announces."""
    value = row.get("id") if isinstance(row, Mapping) else None
    if not isinstance(row, Mapping) or not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("an instance without an id")
    instance_id = str(value)
    state, raw = fold(row)
    # A record keeps the ports of its last run.
    address, port = _ssh(row) if state is InstanceState.RUNNING else (None, None)
    gpus, price = number(row.get("num_gpus")), number(row.get("dph_total"))
    known = isinstance(row.get("machine_id"), int) and not isinstance(row.get("machine_id"), bool)
    return Instance(
        id=instance_id,
        label=row["label"] if isinstance(row.get("label"), str) else None,
        state=state,
        raw_state=raw,
        address=address,
        instance_type=instance_type(row["machine_id"], int(gpus)) if known and gpus is not None else None,
        zone=zone(row.get("geolocation")) if "geolocation" in row else None,
        price_per_hour=price if price is not None and 0 < price < ABSURD_USD else None,
        ssh_port=port,
        capacity_type=_market(row),
        machine=str(row["machine_id"]) if known else None,
        notice=notices.get(instance_id),
    )


def fold(row: Mapping[str, Any]) -> tuple[InstanceState, str]:
    """The one state behind Vast's four fields, and Vast's own words for it.

    `actual_status` is what the host reports, `intended_status` and `next_state` what shall be, `cur_state` what the
    contract is now. A bid that is outbid shows `stopped` in all but the first, and runs again by itself when it wins.
    """
    actual, intended = _word(row, "actual_status"), _word(row, "intended_status")
    current, coming = _word(row, "cur_state"), _word(row, "next_state")
    raw = f"{actual or 'none'}, intended {intended or 'none'}, {current or 'none'} → {coming or 'none'}"
    if row.get("is_bid") is True and {intended, current, coming} == {"stopped"}:
        return InstanceState.STOPPED, f"outbid ({raw})"
    if "stopped" in {intended, coming} or actual in _OFF:
        return InstanceState.STOPPED, raw
    message = row.get("status_msg")
    if isinstance(message, str) and _FAILED.search(message):
        return InstanceState.UNHEALTHY, f"failed: {' '.join(message.split())[:100]} ({raw})"
    if actual in _COMING:
        return InstanceState.STARTING, raw
    if actual == "offline":
        return InstanceState.UNHEALTHY, raw
    if actual == "running":
        return (InstanceState.STOPPED if current == "stopped" else InstanceState.RUNNING), raw
    return InstanceState.UNKNOWN, raw


def read_notices(answer: object) -> dict[str, str]:
    """Instance id → the price rise its host asks for. Rows that cannot be read are passed over: a notice moves no money."""
    rows = answer.get("pending_price_increases") if isinstance(answer, dict) else None
    notices = {}
    for row in rows if isinstance(rows, list) else []:
        contract = row.get("contract_id") if isinstance(row, dict) else None
        if isinstance(contract, int) and not isinstance(contract, bool):
            notices[str(contract)] = _rise(row)
    return notices


def _rise(row: Mapping[str, Any]) -> str:
    old, new = number(row.get("old_gpu_costpersec")), number(row.get("new_gpu_costpersec"))
    asks = "the host asks for a higher price"
    if old is not None and new is not None:
        asks = f"the host asks for {_hourly(new)} instead of {_hourly(old)} USD an hour for the GPUs"
    # Until then, and as long as nobody accepts it, the old price holds; the contract is not prolonged.
    return f"{asks}; not accepted, so the old price holds until the contract ends"


def _hourly(per_second: Decimal) -> str:
    return f"{(per_second * 3600).quantize(Decimal('0.001')).normalize():f}"


def _market(row: Mapping[str, Any]) -> CapacityType | None:
    if not isinstance(row.get("is_bid"), bool):
        return None
    return CapacityType.SPOT if row["is_bid"] else CapacityType.ON_DEMAND


def _ssh(row: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """Where sshd answers. Vast's own SSH proxy does not reach VMs: only a port of the host, passed on to its 22, will do."""
    address, ports = row.get("public_ipaddr"), row.get("ports")
    bound = ports.get("22/tcp") if isinstance(ports, Mapping) else None
    for each in bound if isinstance(bound, list) else []:
        port = number(each.get("HostPort")) if isinstance(each, Mapping) else None
        if isinstance(address, str) and address.strip() and port is not None and 0 < port < 65536:
            return address.strip()[:64], int(port)
    return None, None


def _word(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    return value.strip().lower()[:40] if isinstance(value, str) and value.strip() else None
