"""What the API needs of the services."""

from decimal import Decimal
from typing import Literal, Protocol

from broker.core.demand import Shape
from broker.core.offers import Offer
from broker.services.credentials import CredentialLine, CredentialView, TestView
from broker.services.market import OffersView, Question
from broker.services.views import LeaseLine, LeaseView, NodeAccess, Status, Why

LogName = Literal["boot", "console"]


class Credentials(Protocol):
    """As `Operations`. NotFound: the configuration has no such credential."""

    def lines(self) -> list[CredentialLine]: ...

    def view(self, name: str) -> CredentialView: ...

    def test(self, name: str) -> TestView:
        """Calls the provider, and buys nothing."""

    def quote(self, name: str, max_price: Decimal, gpu: str | None) -> tuple[Offer, Shape]:
        """Refused: nothing is to be had at that price an hour."""

    def buy_for_test(self, name: str, offer_id: str, max_price: Decimal, actor: str) -> str:
        """The id of the lease. Refused: no more on sale, dearer, or a limit would be passed."""

    def pause(self, name: str, reason: str, actor: str) -> CredentialLine:
        """Repeating it only renews the reason."""

    def resume(self, name: str, actor: str) -> CredentialLine:
        """Repeating it changes nothing."""


class Operations(Protocol):
    """Methods are called from several threads at once and may raise any BrokerError.

    `actor` is the Unix user who asked; it goes into the history.
    """

    def offers(self, question: Question) -> OffersView:
        """What was on sale at the last readings, in the order asked for."""

    def leases(self, include_released: bool, node: str | None) -> list[LeaseLine]:
        """Living leases, or all of them; of one node or of every node."""

    def lease(self, lease_id: str) -> LeaseView:
        """NotFound: there never was such a lease."""

    def release(self, lease_id: str, reason: str, actor: str) -> LeaseView:
        """Give the instance back. Repeating it changes nothing. NotFound, StaleLease."""

    def log(self, lease_id: str, which: LogName) -> str:
        """The instance's own words while it booted. NotFound: no lease, or nothing was kept."""

    def why(self, target: str) -> Why:
        """The story of a job id or a node name. NotFound; SlurmUnavailable."""

    def pause(self, reason: str, actor: str) -> Status:
        """Buy nothing until `resume`. Repeating it only renews the reason."""

    def resume(self, actor: str) -> Status:
        """Buy again. Repeating it changes nothing."""

    def status(self) -> Status: ...

    @property
    def credentials(self) -> Credentials: ...

    def node_access(self, node: str) -> NodeAccess:
        """NotFound: no machine with an address stands behind the node now."""
