"""Tables. The database keeps the invariants: not null, foreign keys, checks, one unfenced lease a node name."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from broker.core.leases import HOLDS_NODE, LeaseState


class Utc(TypeDecorator[datetime]):
    """An aware UTC time; stored naive, since SQLite knows no zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value else None


class Money(TypeDecorator[Decimal]):
    """An exact decimal, stored as text: SQLite's NUMERIC is a float."""

    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


class Exact(TypeDecorator[Fraction]):
    """An exact fraction, as text: `n/d`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Fraction | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Fraction | None:
        return None if value is None else Fraction(value)


def _states(states: frozenset[LeaseState] | type[LeaseState]) -> str:
    return ", ".join(sorted(f"'{state}'" for state in states))


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

leases = Table(
    "leases",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("node", String(64), nullable=False),
    Column("shape", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("state_since", Utc, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("requested_at", Utc, nullable=False),
    Column("deadline", Utc, nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("job_id", Integer),
    Column("reason", Text),
    Column("not_before", Utc),
    Column("provider", String(64)),
    Column("offer_id", String(255)),
    Column("instance_type", String(128)),
    Column("zone", String(128)),
    Column("capacity_type", String(16)),
    Column("machine", String(128)),
    Column("price_per_hour", Money),
    Column("currency", String(3)),
    Column("label", String(63), unique=True),
    Column("instance_id", String(128)),
    Column("address", String(64)),
    Column("ssh_port", Integer),
    Column("private_address", String(64)),
    Column("host_key", Text),
    Column("overlay_key", String(64)),
    Column("fenced_at", Utc),
    CheckConstraint(f"state IN ({_states(LeaseState)})", name="state_known"),
    CheckConstraint("state IN ('requested', 'released') OR label IS NOT NULL", name="label_before_launch"),
)
Index(
    "uq_leases_node_held",
    leases.c.node,
    unique=True,
    sqlite_where=text(f"state IN ({_states(HOLDS_NODE)})"),
    postgresql_where=text(f"state IN ({_states(HOLDS_NODE)})"),
)
Index("ix_leases_state", leases.c.state)
Index("ix_leases_state_since", leases.c.state_since)
Index("ix_leases_request_id", leases.c.request_id)
Index("ix_leases_job_id", leases.c.job_id)
Index("ix_leases_node", leases.c.node)

lease_events = Table(
    "lease_events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("lease_id", ForeignKey("leases.id"), nullable=False, index=True),
    Column("was", String(16)),
    Column("became", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Utc, nullable=False),
)

lease_steps = Table(
    "lease_steps",
    metadata,
    Column("lease_id", ForeignKey("leases.id"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("outputs", JSON, nullable=False),
    Column("finished_at", Utc, nullable=False),
    Column("seconds", Float, nullable=False),
)

usage_events = Table(
    "usage_events",
    metadata,
    Column("lease_id", ForeignKey("leases.id"), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("not_before", Utc, nullable=False),
    Column("not_after", Utc, nullable=False),
    Column("price_per_hour", Money, nullable=False),
    Column("currency", String(3), nullable=False),
    CheckConstraint("kind IN ('start', 'end')", name="kind_known"),
    CheckConstraint("not_before <= not_after", name="bounds_in_order"),
)

offers = Table(
    "offers",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("provider", String(64), nullable=False, index=True),
    Column("kind", String(32), nullable=False),
    Column("instance_type", String(128), nullable=False),
    Column("zone", String(128), nullable=False),
    Column("capacity_type", String(16), nullable=False),
    Column("accelerator", String(32)),
    Column("accelerator_count", Integer, nullable=False),
    Column("accelerator_memory_gib", Integer),
    Column("cpus", Integer, nullable=False),
    Column("memory_gib", Integer, nullable=False),
    Column("disk_gib", Integer, nullable=False),
    Column("cpu_arch", String(16), nullable=False),
    Column("price_per_hour", Money, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("available", Boolean, nullable=False),
    Column("observed_at", Utc, nullable=False),
    Column("disk_price_per_gib_hour", Money),
    Column("disk_min_gib", Integer),
    Column("machine", String(128)),
    Column("until", Utc),
    Column("egress_per_gb", Money),
    Column("ingress_per_gb", Money),
)

attended_jobs = Table(
    "attended_jobs",
    metadata,
    Column("job_id", Integer, primary_key=True),
    Column("lease_id", ForeignKey("leases.id"), primary_key=True),
    Column("user", String(64), nullable=False),
    Column("attended_at", Utc, nullable=False),
    Column("mounted_at", Utc),
    Column("ended_at", Utc),
)

blocks = Table(
    "blocks",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("cause", String(16), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("error", Text),
    Column("since", Utc, nullable=False),
    Column("at", Utc, nullable=False),
    Column("until", Utc),
    Column("strikes", Integer, nullable=False),
    Column("by", String(64)),
    Column("trying", ForeignKey("leases.id")),
)
"""`core/blocks.py` says what stands here; `trying` is the lease of the attempt that a half-open one let through."""

block_events = Table(
    "block_events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("provider", String(64), nullable=False, index=True),
    Column("cause", String(16), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("what", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("error", Text),
    Column("by", String(64)),
    Column("at", Utc, nullable=False),
)

credential_looks = Table(
    "credential_looks",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("at", Utc, nullable=False),
    Column("error", Text),
    Column("seconds", Float, nullable=False),
)
"""The last look whether the provider takes the credential."""

residue = Table(
    "residue",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("thing", String(128), primary_key=True),
    Column("label", String(63), nullable=False),
    Column("said", Text, nullable=False),
    Column("found_at", Utc, nullable=False),
    Column("removed_at", Utc),
)
"""What still cost money with our label and no lease: machines, disks. `removed_at`: the provider says that it is gone."""

purchasing = Table(
    "purchasing",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("paused_reason", Text),
    Column("paused_by", String(64)),
    Column("turn", Integer, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)
"""One row. `turn` is bumped in each buying transaction, so that two of them cannot both pass the same limit."""

offer_series = Table(
    "offer_series",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("provider", String(64), nullable=False, index=True),
    Column("offer_id", String(255), nullable=False, unique=True),
    Column("instance_type", String(128), nullable=False),
    Column("zone", String(128), nullable=False),
    Column("capacity_type", String(16), nullable=False),
    Column("accelerator", String(32), index=True),
    Column("accelerator_count", Integer, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("folded_until", Utc),
)
"""An offer as long as there is history of it: its observations name it by a number, not by 60 letters."""

offer_observations = Table(
    "offer_observations",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("series_id", ForeignKey("offer_series.id"), nullable=False),
    Column("at", Utc, nullable=False, index=True),
    Column("price_per_hour", Money, nullable=False),
    Column("available", Boolean, nullable=False),
    Column("source", String(16), nullable=False),
    CheckConstraint("source IN ('listing', 'create_refused', 'create_accepted', 'probe')", name="source_known"),
    Index("ix_offer_observations_series_id_at", "series_id", "at"),
)
"""Append-only: what changed, and what came of purchases. Between two rows the readings confirm the first."""

offer_readings = Table(
    "offer_readings",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("provider", String(64), nullable=False),
    Column("at", Utc, nullable=False),
    Column("polls", Integer, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("changes", Integer, nullable=False),
    Column("believed", Boolean, nullable=False),
    Column("note", Text),
    Column("left_out", JSON, nullable=False),
    Index("ix_offer_readings_provider_at", "provider", "at"),
)
"""Append-only: a reading that changed something, that was not believed, or that says "still so" after a while."""

offer_periods = Table(
    "offer_periods",
    metadata,
    Column("series_id", ForeignKey("offer_series.id"), primary_key=True),
    Column("hours", Integer, primary_key=True),
    Column("start", Utc, primary_key=True),
    Column("price_low", Money, nullable=False),
    Column("price_high", Money, nullable=False),
    Column("price_last", Money, nullable=False),
    Column("available_s", Integer, nullable=False),
    Column("changes", Integer, nullable=False),
    Column("bought", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    CheckConstraint("hours IN (1, 24)", name="an_hour_or_a_day"),
    Index("ix_offer_periods_start", "start"),
)
"""What older observations were folded into: an hour, later a day. None: not available in all of it, and unchanged."""

sacct_runs = Table(
    "sacct_runs",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("cluster", String(64), nullable=False),
    Column("key", String(128), nullable=False),
    Column("supersedes", ForeignKey("sacct_runs.id"), unique=True),
    Column("digest", String(64), nullable=False),
    Column("raw_id", String(32), nullable=False),
    Column("job_id", String(128), nullable=False),
    Column("submitted_at", Utc, nullable=False),
    Column("started_at", Utc),
    Column("ended_at", Utc),
    Column("elapsed_s", BigInteger, nullable=False),
    Column("suspended_s", BigInteger, nullable=False),
    Column("limit_s", BigInteger),
    Column("state", String(32), nullable=False),
    Column("user", String(128), nullable=False),
    Column("account", String(128), nullable=False),
    Column("partition", String(128), nullable=False),
    Column("qos", String(128), nullable=False),
    Column("gpus", Text),
    Column("cpus", BigInteger),
    Column("billing", BigInteger),
    Column("nodes", Text, nullable=False),
    Column("imported_at", Utc, nullable=False),
    Column("source", Text, nullable=False),
    UniqueConstraint("cluster", "key", "digest"),
    Index("ix_sacct_runs_cluster_raw_id", "cluster", "raw_id"),
)
"""Append-only: what Slurm said of a run that is over. A later word is a row that `supersedes` the one it corrects; the last
word is the row that none supersedes. A run is begun once and each row corrected once, so its rows are a chain."""
Index(
    "uq_sacct_runs_first",
    sacct_runs.c.cluster,
    sacct_runs.c.key,
    unique=True,
    sqlite_where=text("supersedes IS NULL"),
    postgresql_where=text("supersedes IS NULL"),
)

occupancies = Table(
    "occupancies",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("lease_id", ForeignKey("leases.id"), nullable=False, index=True),
    Column("job_id", Integer, nullable=False),
    Column("user", String(64), nullable=False),
    Column("account", String(64)),
    Column("began_at", Utc, nullable=False),
    Column("ended_at", Utc),
    CheckConstraint("ended_at IS NULL OR began_at <= ended_at", name="ends_in_order"),
)
"""Which job held which machine when. Unlike `attended_jobs`, a job that came back to a machine has a row for each time."""
Index(
    "uq_occupancies_open",
    occupancies.c.lease_id,
    occupancies.c.job_id,
    unique=True,
    sqlite_where=text("ended_at IS NULL"),
    postgresql_where=text("ended_at IS NULL"),
)

lease_payers = Table(
    "lease_payers",
    metadata,
    Column("lease_id", ForeignKey("leases.id"), primary_key=True),
    Column("job_id", Integer, nullable=False),
    Column("user", String(64), nullable=False),
    Column("account", String(64)),
)
"""For which job's user and account the machine was bought: it pays what no job holds."""

metered_leases = Table(
    "metered_leases",
    metadata,
    Column("lease_id", ForeignKey("leases.id"), primary_key=True),
    Column("provider", String(64)),
    Column("accelerator", String(32)),
    Column("units", Integer, nullable=False),
    Column("granularity_s", Integer, nullable=False),
    Column("until", Utc),
    Column("settled", Boolean, nullable=False),
    CheckConstraint("units > 0 AND granularity_s > 0", name="counts_something"),
)
"""What a lease's usage is counted by, as it was when it was first metered. `settled`: nothing is expected to change."""
Index("ix_metered_leases_settled", metered_leases.c.settled)

usage_entries = Table(
    "usage_entries",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("lease_id", ForeignKey("leases.id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("job_id", Integer),
    Column("user", String(64)),
    Column("account", String(64)),
    Column("began_at", Utc, nullable=False),
    Column("ended_at", Utc, nullable=False),
    Column("part", Integer, nullable=False),
    Column("parts", Integer, nullable=False),
    Column("provider", String(64)),
    Column("accelerator", String(32)),
    Column("units", Integer, nullable=False),
    Column("price_per_hour", Money, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("reason", Text, nullable=False),
    Column("written_at", Utc, nullable=False),
    Column("reverses", ForeignKey("usage_entries.id"), unique=True),
    CheckConstraint("began_at < ended_at", name="takes_time"),
    CheckConstraint("0 < part AND part <= parts", name="part_of_a_whole"),
    CheckConstraint("kind IN ('boot', 'failed_boot', 'job', 'idle', 'parked', 'release')", name="kind_known"),
)
"""Append-only. An entry is taken back by one that `reverses` it, once at most, and never changed."""
Index("ix_usage_entries_ended_at", usage_entries.c.ended_at)

billing_terms = Table(
    "billing_terms",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),
    Column("account", String(64)),
    Column("accelerator", String(32)),
    Column("slice_kind", String(16)),
    Column("name", String(64)),
    Column("value", Money),
    Column("text", String(64)),
    Column("currency", String(3)),
    Column("effective_from", Utc, nullable=False),
    Column("source", Text),
    Column("set_by", String(64), nullable=False),
    Column("set_at", Utc, nullable=False),
)
"""Append-only: what usage is charged at, from when on (`billing/terms.py`)."""

billing_turn = Table(
    "billing_turn",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("turn", Integer, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)
"""One row, bumped by whoever meters, closes or sets terms: these run one after the other."""

invoices = Table(
    "invoices",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(96), nullable=False, unique=True),
    Column("account", String(64), nullable=False),
    Column("period_start", Utc, nullable=False),
    Column("period_end", Utc, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("cost_centre", String(64)),
    Column("lines", JSON, nullable=False),
    Column("taxes", JSON, nullable=False),
    Column("carried_in", Exact, nullable=False),
    Column("net_minor", BigInteger, nullable=False),
    Column("carried_out", Exact, nullable=False),
    Column("closed_at", Utc, nullable=False),
    Column("closed_by", String(64), nullable=False),
    Column("refers_to", ForeignKey("invoices.id")),
    Column("note", Text),
    CheckConstraint("period_start < period_end", name="period_in_order"),
)
"""Append-only: closed invoices and the credit notes about them."""
Index(
    "uq_invoices_account_period",
    invoices.c.account,
    invoices.c.period_start,
    unique=True,
    sqlite_where=text("refers_to IS NULL"),
    postgresql_where=text("refers_to IS NULL"),
)
Index("uq_invoices_refers_to_note", invoices.c.refers_to, invoices.c.note, unique=True)

invoiced_entries = Table(
    "invoiced_entries",
    metadata,
    Column("entry_id", ForeignKey("usage_entries.id"), primary_key=True),
    Column("invoice_id", ForeignKey("invoices.id"), nullable=False, index=True),
)
"""An entry is on one invoice at most."""

charges = Table(
    "charges",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("entry_id", ForeignKey("usage_entries.id"), nullable=False, index=True),
    Column("invoice_id", ForeignKey("invoices.id"), nullable=False, index=True),
    Column("account", String(64), nullable=False),
    Column("user", String(64)),
    Column("job_id", Integer),
    Column("kind", String(16), nullable=False),
    Column("accelerator", String(32)),
    Column("began_at", Utc, nullable=False),
    Column("ended_at", Utc, nullable=False),
    Column("unit_us", Exact, nullable=False),
    Column("free_us", Exact, nullable=False),
    Column("free_scope", String(32)),
    Column("unit_price", Exact, nullable=False),
    Column("basis", String(32), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("exchange", Money, nullable=False),
    Column("exchange_source", Text),
    Column("percent", Money, nullable=False),
    Column("amount", Exact, nullable=False),
    Column("terms", JSON, nullable=False),
)
"""Append-only: what each invoiced entry was charged at, exactly."""

usage_outbox = Table(
    "usage_outbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("account", String(64), nullable=False),
    Column("meter", String(32), nullable=False),
    Column("hour", Utc, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("identifier", String(100), nullable=False, unique=True),
    Column("value", Money, nullable=False),
    Column("total_us", Exact, nullable=False),
    Column("sendable_at", Utc, nullable=False),
    Column("state", String(16), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("first_try_at", Utc),
    Column("not_before", Utc),
    Column("sent_at", Utc),
    Column("error", Text),
    CheckConstraint("state IN ('due', 'sending', 'sent', 'dead', 'too_late')", name="state_known"),
    CheckConstraint("state IN ('due', 'too_late') OR first_try_at IS NOT NULL", name="tried_before_sent"),
    UniqueConstraint("account", "meter", "hour", "revision"),
)
"""Usage to tell a meter outside, written in the transaction that wrote the entries. `total_us`: of the hour, after it."""
Index("ix_usage_outbox_state", usage_outbox.c.state)

stripe_objects = Table(
    "stripe_objects",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("stripe_id", String(255), index=True),
    Column("idempotency_key", String(255), nullable=False, unique=True),
    Column("tries", Integer, nullable=False),
    Column("intended_at", Utc, nullable=False),
    Column("made_at", Utc),
    CheckConstraint("(stripe_id IS NULL) = (made_at IS NULL)", name="made_with_its_id"),
)
"""What we make at Stripe: the wish before the call, its id after the answer."""

stripe_states = Table(
    "stripe_states",
    metadata,
    Column("stripe_id", String(255), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("status", String(32), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("said_at", Utc, nullable=False),
    Column("written_at", Utc, nullable=False),
)
"""What Stripe last said of an object of ours. `said_at`: its own time; what is older is not taken."""

stripe_events = Table(
    "stripe_events",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("kind", String(100), nullable=False),
    Column("created", Utc, nullable=False),
    Column("received_at", Utc, nullable=False),
    Column("to_fetch", Boolean, nullable=False),
)
"""Webhooks taken, each once. `to_fetch`: only its id came, and what it says is still to be read."""
