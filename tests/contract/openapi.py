"""Answers held against an OpenAPI 3.1 file, whose schemas are JSON Schema 2020-12: what is absent is absent, never null."""

import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator

# What the emulator answers beside the specification, and why.
BESIDE: dict[tuple[str, str], str] = {
    ("*", "429"): "limits are documented, their answer is not; clients have seen 429 with plain text",
    ("*", "500"): "an internal error has a schema, but no operation names it",
    ("post /api/v1/instance-operations/terminate", "409"): "seen by clients while an action is in progress",
    ("post /api/v1/ssh-keys", "400"): "global/duplicate for a second key of one name, seen by clients",
}


class Contract:
    """One OpenAPI document. `seen`: operation and status of each answer that was held against it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = _closed(document)
        # Not among the properties of an instance, but in each recorded example of one.
        self.document["components"]["schemas"]["Instance"]["properties"]["is_reserved"] = {"type": "boolean"}
        self.seen: set[tuple[str, str]] = set()

    def operations(self) -> set[str]:
        return {f"{method} {path}" for path, methods in self.document["paths"].items() for method in methods}

    def check(self, answer: httpx.Response) -> None:
        """Fails when the specification does not allow `answer`, and no entry of BESIDE does."""
        operation = self._operation(answer.request.method.lower(), answer.request.url.path)
        status = str(answer.status_code)
        self.seen.add((operation or "none", status))
        if status == "429":
            assert "Retry-After" not in answer.headers
            return
        if operation is None:
            assert status in {"404", "401", "403", "400", "500"}, answer
            self._valid(answer, self._error({"404": "NotFound", "401": "Unauthorized"}.get(status)))
            return
        method, path = operation.split()
        documented = self.document["paths"][path][method]["responses"].get(status)
        if documented is not None and not self._is_duplicate(answer):
            self._valid(answer, documented["content"]["application/json"]["schema"])
            return
        assert {("*", status), (operation, status)} & set(BESIDE), f"{operation} answers {status}: {answer.text}"
        self._valid(answer, self._error({"500": "Internal", "409": "Conflict", "400": "Duplicate"}[status]))

    def _operation(self, method: str, path: str) -> str | None:
        for template, methods in self.document["paths"].items():
            if method in methods and re.fullmatch(template.replace("{id}", "[^/]*"), path):
                return f"{method} {template}"
        return None

    def _is_duplicate(self, answer: httpx.Response) -> bool:
        return answer.status_code == 400 and answer.json()["error"]["code"] == "global/duplicate"

    def _error(self, name: str | None) -> dict[str, Any]:
        any_of = [name] if name else ["InvalidParameters", "AccountInactive", "Internal"]
        refs = [{"$ref": f"#/components/schemas/ApiError{one}"} for one in any_of]
        return {"type": "object", "properties": {"error": {"anyOf": refs}}, "required": ["error"]}

    def _valid(self, answer: httpx.Response, schema: dict[str, Any]) -> None:
        Draft202012Validator({**schema, "components": self._components()}).validate(answer.json())

    def _components(self) -> dict[str, Any]:
        schemas = self.document["components"]["schemas"]
        # The subset leaves out errors that no operation of it names: a conflict at terminate is such a one.
        return {"schemas": {**_ERRORS_BESIDE, **schemas}}


_ERRORS_BESIDE = {
    f"ApiError{name}": {
        "type": "object",
        "properties": {"code": {"const": code}, "message": {"type": "string"}, "suggestion": {"type": "string"}},
        "required": ["code", "message"],
        "additionalProperties": False,
    }
    for name, code in (("Internal", "global/internal-error"), ("Duplicate", "global/duplicate"))
}


def _closed(schema: Any) -> Any:
    """The same, but an object may have no property that its schema does not name: an emulator must invent nothing."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed
