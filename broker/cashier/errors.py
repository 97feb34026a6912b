"""Errors of the cashier, named for what the caller does about them."""

from broker.core.errors import BrokerError, CredentialsRefused, ProviderUnavailable, RateLimited


class CashierRefused(BrokerError):
    """Stripe says that the request is wrong: a person must look. `param`: the field that it names."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class AlreadyKnown(CashierRefused):
    """The event was taken before: it counts as sent."""


class KeyUsedOtherwise(CashierRefused):
    """The idempotency key was used with other parameters: look whether the thing is there, then take a new key."""


CashierUnavailable = ProviderUnavailable
"""No answer, or one that it may have been done: the same request again, with the same key, or a look."""

__all__ = [
    "AlreadyKnown",
    "CashierRefused",
    "CashierUnavailable",
    "CredentialsRefused",
    "KeyUsedOtherwise",
    "RateLimited",
]
