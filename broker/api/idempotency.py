"""`Idempotency-Key`: a repeated POST gets the first one's answer.

The deeds behind our POSTs may be repeated anyway (a released lease stays released), so the answers are kept in memory
only: after a restart a repeated key is a new request, and does no harm.
"""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from broker.core.errors import BrokerError

# Too small: a client that retries late gets a fresh answer instead of the first; too large: memory for nothing.
KEPT = 1024

Answer = TypeVar("Answer")


class Answers:
    """The last KEPT answers by (uid, key). Safe for threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: OrderedDict[tuple[int, str], tuple[object, object]] = OrderedDict()

    def once(self, uid: int, key: str | None, request: object, act: Callable[[], Answer]) -> Answer:
        """What `act` answered to this key before, else its answer now; errors are not kept.

        BrokerError: the key was used for another request.
        """
        if key is None:
            return act()
        with self._lock:
            kept = self._kept.get((uid, key))
        if kept is not None:
            if kept[0] != request:
                raise BrokerError(f'Idempotency-Key "{key}" was used for another request; take a new key.')
            return kept[1]  # type: ignore[return-value]  # the same request has the same kind of answer
        answer = act()
        with self._lock:
            self._kept[uid, key] = (request, answer)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return answer
