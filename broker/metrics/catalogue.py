"""Every metric: name, kind, labels, help. No label holds a job, a user, a node, a lease or a machine: those have no end."""

from dataclasses import dataclass
from typing import Literal

_SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LONG = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A metric as Prometheus shall show it. A counter's name ends in `_total`; a histogram's `buckets` are seconds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


BUILD = Spec(name="broker_build_info", kind="gauge", labels=("version",), help="1; the version stands in the label.")
LEDGER_UP = Spec(name="broker_ledger_up", kind="gauge", help="Whether the ledger could be read at this scrape.")

INTENTS = Spec(
    name="broker_intents_total",
    kind="counter",
    labels=("verb",),
    help="Calls of Slurm's power-save programs carried out: resume, suspend, resume_failed; unreadable ones were set aside.",
)
JOBS_WAITING = Spec(name="broker_jobs_waiting", kind="gauge", help="Jobs whose PrologSlurmctld waits for their home.")

LEASES = Spec(name="broker_leases", kind="gauge", labels=("state",), help="Leases that are not released, by state.")
PRICE = Spec(
    name="broker_leases_price_per_hour",
    kind="gauge",
    labels=("provider", "currency"),
    help="What the machines bought and not confirmed gone cost an hour.",
)
TRANSITIONS = Spec(
    name="broker_lease_transitions_total",
    kind="counter",
    labels=("was", "became", "reason"),
    help="Moves of leases since the daemon started, with the class of their reason; was is none for a new lease.",
)
STAGE = Spec(
    name="broker_stage_seconds",
    kind="histogram",
    labels=("stage",),
    buckets=_LONG,
    help="Stages of a node's life: asked, next_offer, address, join, register, ready (all of these together), release.",
)

CREATES = Spec(
    name="broker_creates_total",
    kind="counter",
    labels=("provider", "outcome"),
    help="Purchases sent: bought, sold_out, quota, credential, unreachable, rate_limited, refused, unknown (answer lost).",
)
ADOPTED = Spec(
    name="broker_adopted_total",
    kind="counter",
    labels=("provider",),
    help="Machines found by their label after the answer to their purchase was lost.",
)
ORPHANS = Spec(
    name="broker_orphans_ended_total",
    kind="counter",
    labels=("provider",),
    help="Machines with our label that no living lease knew, ended.",
)
RESIDUE = Spec(
    name="broker_residue_removed_total",
    kind="counter",
    labels=("provider",),
    help="What else cost money with our label and no living lease (disks, keys), removed.",
)
UNBACKED = Spec(
    name="broker_nodes_unbacked_total",
    kind="counter",
    help="Nodes powered down because Slurm used or woke them and no machine stood behind them.",
)

OFFERS = Spec(
    name="broker_offers",
    kind="gauge",
    labels=("provider", "available"),
    help="Offers of the last reading, by whether they could be bought.",
)
OFFERS_READ = Spec(
    name="broker_offers_read_timestamp_seconds",
    kind="gauge",
    labels=("provider",),
    help="When the offers were last read.",
)
OFFERS_LEFT_OUT = Spec(
    name="broker_offers_left_out",
    kind="gauge",
    labels=("provider", "reason"),
    help="Rows of the last list that became no offers, by why.",
)
OFFERS_DOUBTED = Spec(
    name="broker_offers_doubted",
    kind="gauge",
    labels=("provider",),
    help="1 while the newest list is not believed, since half of the one before is missing in it.",
)
SUSPENDED = Spec(
    name="broker_credential_suspended",
    kind="gauge",
    labels=("provider",),
    help="1 while nothing at all is bought with the credential: paused, refused, unreachable, in protected mode.",
)
BLOCKS = Spec(
    name="broker_blocks",
    kind="gauge",
    labels=("provider", "cause"),
    help="Blocks that are open now; refused and sales_refused want an operator.",
)
LOOKED = Spec(
    name="broker_credential_looked_timestamp_seconds",
    kind="gauge",
    labels=("provider",),
    help="When the provider last took the credential at our hourly look.",
)
PAUSED = Spec(name="broker_buying_paused", kind="gauge", help="1 after `broker pause`.")

REQUESTS = Spec(
    name="broker_provider_requests_total",
    kind="counter",
    labels=("provider", "method", "endpoint", "status"),
    help="HTTP calls to providers; status is none when no answer came.",
)
REQUEST_SECONDS = Spec(
    name="broker_provider_request_seconds",
    kind="histogram",
    labels=("provider", "endpoint"),
    buckets=_SHORT,
    help="How long providers took to answer.",
)
WAITS = Spec(
    name="broker_provider_wait_seconds",
    kind="histogram",
    labels=("provider",),
    buckets=_SHORT,
    help="How long calls waited for our own limit of the credential.",
)

PASSES = Spec(
    name="broker_activity_passes_total",
    kind="counter",
    labels=("activity", "outcome"),
    help="How often an activity looked for work: ok or failed.",
)
TASKS = Spec(
    name="broker_activity_tasks_total",
    kind="counter",
    labels=("activity", "outcome"),
    help="Steps of work done: ok, failed, or overtaken by another worker.",
)
TASK_SECONDS = Spec(
    name="broker_activity_task_seconds",
    kind="histogram",
    labels=("activity",),
    buckets=_LONG,
    help="How long a step took.",
)
LAST_SUCCESS = Spec(
    name="broker_activity_last_success_timestamp_seconds",
    kind="gauge",
    labels=("activity",),
    help="When an activity last looked for work without an error.",
)

SPECS: tuple[Spec, ...] = tuple(value for value in list(vars().values()) if isinstance(value, Spec))
