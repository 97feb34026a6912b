"""Errors, named for what the caller will do about them."""


class BrokerError(Exception):
    """Any failure this project explains; its text names the thing, the reason and the mend."""


class ConfigError(BrokerError):
    """The configuration cannot be used: the operator edits it."""


class Refused(BrokerError):
    """A rule (limit, policy, permission) says no: the caller asks differently or asks an operator."""


class NotFound(BrokerError):
    """There is no such job, node or lease."""


class LedgerUnavailable(BrokerError):
    """The database cannot be used now: nothing is bought or given back until it can."""


class StaleLease(BrokerError):
    """Another worker moved this lease first: read it again."""


class IllegalMove(BrokerError):
    """The table of moves does not allow this step: a bug, never retried."""


class SlurmUnavailable(BrokerError):
    """slurmctld did not answer in time: the next pass tries again."""


class StepFailed(BrokerError):
    """A bootstrap step ended badly on the node; the next offer is tried."""


class NodeUnreachable(BrokerError):
    """The instance's sshd does not answer yet, or not with the key we pinned: try again until the deadline."""


class SignalError(BrokerError):
    """A signal (carbon intensity, price of power) could not be had: the next link of its chain is asked."""


class SignalUnavailable(SignalError):
    """Nobody answered, or said no: later, or through another road."""


class SignalUnreadable(SignalError):
    """What came is not what the source promises (a page instead of data, half a file, another schema): nothing of it is used."""


class ProviderError(BrokerError):
    """A provider said no for a reason none of the subclasses below covers: this offer is out."""


class NoCapacity(ProviderError):
    """Sold out: try the next offer."""


class QuotaExceeded(ProviderError):
    """The credential's quota is full: skip the whole credential for a while."""


class ProviderUnavailable(ProviderError):
    """Nothing was sent, or reading failed: try again later, nothing has changed."""


class RateLimited(ProviderError):
    """Too many calls on this credential: everyone pauses for `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OutcomeUnknown(ProviderError):
    """A create may have happened: list by label and adopt before buying again."""


class CredentialsRefused(ProviderError):
    """Key wrong, expired or account inactive: stop using it and tell the operator."""


class InstanceNotFound(ProviderError):
    """The provider says there is no such instance: its end is confirmed."""
