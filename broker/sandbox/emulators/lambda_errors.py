"""No, in Lambda's words: the error bodies of its OpenAPI 1.10.0."""

from typing import Any


class ApiError(Exception):
    """An answer that says no. A part that the API leaves out is absent, never null."""

    def __init__(self, status: int, code: str, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        error = {"code": code, "message": message}
        self.body: dict[str, Any] | str = {"error": error | ({"suggestion": suggestion} if suggestion else {})}


class TooManyRequests(ApiError):
    """429. Neither the specification nor Lambda's pages say what is in it: no code, no Retry-After, plain text."""

    def __init__(self, what: str) -> None:
        super().__init__(429, "", what)
        self.body = what


def invalid(message: str) -> ApiError:
    return ApiError(400, "global/invalid-parameters", message)


def no_instance() -> ApiError:
    return ApiError(404, "global/object-does-not-exist", "Specified instance does not exist.")


def no_resource(what: str) -> ApiError:
    """Something that a launch names is not there."""
    return ApiError(
        404, "global/object-does-not-exist", f"{what} does not exist.", "Check your request, then try again."
    )


def no_page() -> ApiError:
    return ApiError(404, "global/not-found", "The requested resource was not found.")


def conflict(reason: str) -> ApiError:
    return ApiError(409, "global/conflict", f"The request conflicts with the current state of the resource ({reason}).")


def sold_out() -> ApiError:
    return ApiError(
        400, "instance-operations/launch/insufficient-capacity", "Not enough capacity to fulfill launch request."
    )


def quota_exceeded() -> ApiError:
    return ApiError(400, "global/quota-exceeded", "Quota exceeded.", "Contact Support to increase your quota.")


def wrong_key() -> ApiError:
    return ApiError(
        401,
        "global/invalid-api-key",
        "API key was invalid, expired, or deleted.",
        "Check your API key or create a new one, then try again.",
    )


def inactive() -> ApiError:
    return ApiError(
        403,
        "global/account-inactive",
        "Your account is inactive.",
        "Make sure you have verified your email address and have a valid payment method. "
        "Contact Support if problems continue.",
    )


def internal() -> ApiError:
    return ApiError(
        500,
        "global/internal-error",
        "An internal server error occurred.",
        "Try again later. Contact Support if the problem persists.",
    )
