"""What an exit code says: 0 done, 1 failed, 2 usage, 3 refused, 4 not found, 5 unreachable, 130 interrupted."""

from broker.core.errors import (
    BrokerError,
    LedgerUnavailable,
    NotFound,
    ProviderUnavailable,
    RateLimited,
    Refused,
    SlurmUnavailable,
)

FAILED, USAGE, REFUSED, NOT_FOUND, UNREACHABLE, INTERRUPTED = 1, 2, 3, 4, 5, 130


class Unreachable(BrokerError):
    """The daemon, or what stands behind it, did not answer."""


class BadRequest(BrokerError):
    """The daemon did not understand what was asked."""


_CODES: tuple[tuple[type[BrokerError], int], ...] = (
    (BadRequest, USAGE),
    (Refused, REFUSED),
    (NotFound, NOT_FOUND),
    (Unreachable, UNREACHABLE),
    (LedgerUnavailable, UNREACHABLE),
    (SlurmUnavailable, UNREACHABLE),
    (ProviderUnavailable, UNREACHABLE),
    (RateLimited, UNREACHABLE),
)


def exit_code(error: BrokerError) -> int:
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)
