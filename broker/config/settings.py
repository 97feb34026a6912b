"""What the configuration says, parsed and checked. Every value here can be trusted."""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from broker.core.demand import Limits, Shape


class Secret:
    """A text that never prints itself; `reveal()` at the one place that sends it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled: it would leave this process in plain text")


@dataclass(frozen=True, kw_only=True)
class Site:
    """`operators` are Unix user names; root is one even when it is not named.

    `database`: the ledger's URL, without a password; None: SQLite in `state_dir`.
    `metrics_listen`: host and port where metrics are served by TCP, too; None: on the API's socket only.
    """

    cluster: str
    currency: str
    operators: tuple[str, ...]
    state_dir: Path
    run_dir: Path
    spool_dir: Path
    metrics_listen: tuple[str, int] | None
    database: str | None = None
    database_password: Secret | None = None

    @property
    def ledger(self) -> str:
        """The ledger's URL, without its password."""
        return self.database or f"sqlite:///{self.state_dir / 'broker.db'}"


class SlurmRoad(StrEnum):
    """How slurmctld is asked."""

    AUTO = "auto"
    COMMANDS = "commands"
    PYSLURM = "pyslurm"


@dataclass(frozen=True, kw_only=True)
class SlurmSettings:
    """Times in seconds."""

    conf: Path
    plugin_dir: Path
    resume_timeout_s: int
    suspend_timeout_s: int
    suspend_time_s: int
    command_timeout_s: int
    road: SlurmRoad = SlurmRoad.AUTO
    task_prolog: bool = False


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """`endpoint`: `host:port`, where nodes reach the hub's WireGuard. `nodes`: every node name, in configured order."""

    cidr: IPv4Network
    endpoint: str
    interface: str
    mtu: int
    nodes: tuple[str, ...]

    @property
    def hub(self) -> IPv4Address:
        """The controller's own address: the first of the network."""
        return self.cidr.network_address + 1

    def addresses(self) -> dict[str, IPv4Address]:
        """Node name → its address, for ever the same as long as shapes are only appended."""
        return {name: self.hub + 1 + i for i, name in enumerate(self.nodes)}


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """`lost_after_s`: a ready node that is silent for so many seconds is given back, and its job runs again elsewhere.

    `dead_man_s`: a node that nobody renews for so many seconds ends itself.

    `export_host_key`: the public host key of the sshd that exports homes, which nodes pin.
    """

    ssh_user: str
    lost_after_s: int = 120
    dead_man_s: int
    bundle_dir: Path
    munge_key: Path
    export_host_key: Path
    export_port: int


@dataclass(frozen=True, kw_only=True)
class ProviderSettings:
    """One credential. `base_url` None: the adapter's own; intervals None: as the provider publishes.

    `regions` empty: every region the provider offers.

    `trusted`: its machines may hold the cluster's munge key.

    `webhook_secret`: what the provider signs its webhooks with; None: none are taken.

    `image`: what its machines boot, where the adapter asks for it; `ssh_user` None: `[node] ssh_user`.
    """

    name: str
    kind: str
    base_url: str | None
    api_key: Secret
    trusted: bool
    regions: tuple[str, ...]
    boot_timeout_s: int
    call_interval_ms: int | None
    create_interval_ms: int | None
    ssh_port: int
    ssh_user: str | None = None
    image: str | None = None
    webhook_secret: Secret | None = None


@dataclass(frozen=True, kw_only=True)
class SignalSettings:
    """One source of signals. `proxy` None: as the environment says. `zones`: Electricity Maps' keys, for kinds that have many.

    `path`: the file of the kind `file`.
    """

    name: str
    kind: str
    proxy: str | None = None
    api_key: Secret | None = None
    zones: tuple[str, ...] = ()
    path: Path | None = None


class StripeMode(StrEnum):
    """Who makes the invoices: nobody but us; we, and Stripe collects them; Stripe, from the usage it is told."""

    OFF = "off"
    INVOICES = "invoices"
    METERS = "meters"


@dataclass(frozen=True, kw_only=True)
class BillingSettings:
    """`currency`: of the invoices. `stripe_days_until_due` None: Stripe charges the payer's card or account by itself.

    `stripe_url` None: Stripe's own. `stripe_webhook_secret` None: no webhooks are taken.
    """

    currency: str = "USD"
    stripe: StripeMode = StripeMode.OFF
    stripe_key: Secret | None = None
    stripe_webhook_secret: Secret | None = None
    stripe_url: str | None = None
    stripe_days_until_due: int | None = None
    stripe_return_url: str = "https://stripe.com"


@dataclass(frozen=True, kw_only=True)
class Policy:
    mode: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The whole configuration, and the file it came from."""

    path: Path
    site: Site
    slurm: SlurmSettings
    overlay: Overlay
    limits: Limits
    node: NodeSettings
    shapes: tuple[Shape, ...]
    providers: dict[str, ProviderSettings]
    policy: Policy
    signals: tuple[SignalSettings, ...] = ()
    billing: BillingSettings = field(default_factory=BillingSettings)
