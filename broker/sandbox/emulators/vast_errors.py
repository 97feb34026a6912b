"""No, in Vast's words: the error bodies of its OpenAPI of August 2026."""

from typing import Any


class VastError(Exception):
    """An answer that says no. A text instead of an object: Vast's limits often answer so."""

    def __init__(self, status: int, body: dict[str, Any] | str) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body


def refused(status: int, code: str, message: str, **more: Any) -> VastError:
    return VastError(status, {"success": False, "error": code, "msg": message, **more})


def wrong_key(path: str) -> VastError:
    """The search answers 404 where everything else answers 401."""
    if path.startswith("/v0/bundles/"):
        return VastError(404, {"error": "auth_error", "msg": "Invalid user key"})
    return refused(401, "auth_error", "Invalid user key")


def inactive(path: str) -> VastError:
    if path.startswith("/v0/bundles/"):
        return VastError(404, {"error": "auth_error", "msg": "Invalid user key"})
    return refused(401, "auth_error", "Account is disabled")


def internal() -> VastError:
    return refused(500, "server_error", "Internal server error")


def invalid(message: str, **more: Any) -> VastError:
    return refused(400, "invalid_args", f"error 400/3467: Invalid args: {message}", **more)


def bad_search(message: str) -> VastError:
    return VastError(400, {"error": "invalid_request", "msg": message})


def no_json(path: str) -> VastError:
    """A body that is no object."""
    if "/ssh/" in path:
        return refused(400, "no_ssh_key", "No ssh key provided")
    if "/asks/" in path or "/v0/instances/" in path:
        return refused(400, "invalid_args", "Invalid json body")
    return bad_search("Invalid json body")


def no_such_ask(ask_id: int) -> VastError:
    message = f"error 410/3907: no_such_ask Instance type {ask_id} is no longer available."
    return refused(410, "no_such_ask", message, ask_id=ask_id)


def no_credit(ask_id: int) -> VastError:
    """Its words are not in the specification: they are as clients have quoted them."""
    return refused(400, "invalid_args", "Your account lacks credit; see the billing page.", ask_id=ask_id)


def no_instance() -> VastError:
    return refused(404, "not_found", "Instance not found")


def no_page() -> VastError:
    return refused(404, "not_found", "Not Found")


def too_frequent(path: str, method: str, threshold: float) -> VastError:
    """No two endpoints say it alike; the search's words are not in the specification."""
    text = f"API requests too frequent endpoint threshold={threshold}"
    if method == "DELETE":
        return refused(429, "rate_limit_exceeded", text)
    if path.startswith("/v0/bundles/"):
        return VastError(429, text)
    return VastError(429, {"detail": text})
