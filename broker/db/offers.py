"""The last complete reading of what each credential could buy."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from broker.core.offers import CapacityType, Hardware, Offer
from broker.db.chunks import chunks
from broker.db.schema import offers


def replace_all(db: Connection, provider: str, seen: Iterable[Offer]) -> None:
    """Put a new complete reading of `provider` in the old one's place."""
    db.execute(delete(offers).where(offers.c.provider == provider))
    rows = {offer.id: _values(offer) for offer in seen}
    if rows:
        db.execute(insert(offers), list(rows.values()))


def bring_up_to_date(db: Connection, provider: str, before: Mapping[str, Offer], seen: Mapping[str, Offer]) -> None:
    """Make `seen` what is known of `provider`, where `before` was known: only what differs is written anew."""
    unchanged: dict[datetime, list[str]] = defaultdict(list)
    written: list[Offer] = []
    for offer_id, offer in seen.items():
        known = before.get(offer_id)
        if known is None or vars(known) | {"observed_at": offer.observed_at} != vars(offer):
            written.append(offer)
        elif known.observed_at != offer.observed_at:
            unchanged[offer.observed_at].append(offer_id)
    gone = [offer_id for offer_id in before if offer_id not in seen]
    for ids in chunks([*gone, *(offer.id for offer in written)]):
        db.execute(delete(offers).where(offers.c.provider == provider, offers.c.id.in_(ids)))
    if written:
        db.execute(insert(offers), [_values(offer) for offer in written])
    for at, ids_of_it in unchanged.items():
        for ids in chunks(ids_of_it):
            db.execute(update(offers).where(offers.c.id.in_(ids)).values(observed_at=at))


def current(db: Connection, accelerator: str | None = None, provider: str | None = None) -> list[Offer]:
    """What was on sale at the last reading, by id; of one GPU model, of one credential."""
    query = select(offers).order_by(offers.c.id)
    if accelerator is not None:
        query = query.where(offers.c.accelerator == accelerator)
    if provider is not None:
        query = query.where(offers.c.provider == provider)
    return [_offer(row) for row in db.execute(query)]


def counts(db: Connection) -> list[tuple[str, bool, int, datetime]]:
    """(credential, whether it can be had, how many offers, when one of them was seen last)."""
    query = select(offers.c.provider, offers.c.available, func.count(), func.max(offers.c.observed_at))
    return [
        (provider, available, number, seen)
        for provider, available, number, seen in db.execute(query.group_by(offers.c.provider, offers.c.available))
    ]


def one(db: Connection, offer_id: str) -> Offer | None:
    """The offer as it was read last; None: the last reading did not have it."""
    row = db.execute(select(offers).where(offers.c.id == offer_id)).one_or_none()
    return None if row is None else _offer(row)


def _values(offer: Offer) -> dict[str, Any]:
    hardware = offer.hardware
    return {
        "id": offer.id,
        "provider": offer.provider,
        "kind": offer.kind,
        "instance_type": offer.instance_type,
        "zone": offer.zone,
        "capacity_type": offer.capacity_type,
        "accelerator": hardware.accelerator,
        "accelerator_count": hardware.accelerator_count,
        "accelerator_memory_gib": hardware.accelerator_memory_gib,
        "cpus": hardware.cpus,
        "memory_gib": hardware.memory_gib,
        "disk_gib": hardware.disk_gib,
        "cpu_arch": hardware.cpu_arch,
        "price_per_hour": offer.price_per_hour,
        "currency": offer.currency,
        "available": offer.available,
        "observed_at": offer.observed_at,
        "disk_price_per_gib_hour": offer.disk_price_per_gib_hour,
        "disk_min_gib": offer.disk_min_gib,
        "machine": offer.machine,
        "until": offer.until,
        "egress_per_gb": offer.egress_per_gb,
        "ingress_per_gb": offer.ingress_per_gb,
    }


def _offer(row: Row[Any]) -> Offer:
    return Offer(
        provider=row.provider,
        kind=row.kind,
        instance_type=row.instance_type,
        zone=row.zone,
        capacity_type=CapacityType(row.capacity_type),
        hardware=Hardware(
            accelerator=row.accelerator,
            accelerator_count=row.accelerator_count,
            accelerator_memory_gib=row.accelerator_memory_gib,
            cpus=row.cpus,
            memory_gib=row.memory_gib,
            disk_gib=row.disk_gib,
            cpu_arch=row.cpu_arch,
        ),
        price_per_hour=row.price_per_hour,
        currency=row.currency,
        available=row.available,
        observed_at=row.observed_at,
        disk_price_per_gib_hour=row.disk_price_per_gib_hour,
        disk_min_gib=row.disk_min_gib or 0,
        machine=row.machine,
        until=row.until,
        egress_per_gb=row.egress_per_gb,
        ingress_per_gb=row.ingress_per_gb,
    )
