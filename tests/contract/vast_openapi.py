"""Answers of the emulated Vast held against its OpenAPI 3.0 files, one of which describes one operation."""

import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator

# What the emulator answers beside the specification, and why.
BESIDE: dict[tuple[str, str], str] = {
    ("*", "401"): "a wrong key, where an operation does not name it",
    ("*", "429"): "limits are documented for every operation, their answer for some; clients have seen plain text",
    ("*", "500"): "an internal error is named by few operations",
    ("*", "400"): "a body that is no JSON, an id that is no number",
    ("*", "404"): "no such page, no such contract",
}
_ERROR = {
    "type": "object",
    "properties": {"success": {"const": False}, "error": {"type": "string"}, "msg": {"type": "string"}},
    "required": ["error", "msg"],
    "additionalProperties": False,
}


class VastOpenApi:
    """The documents by their names. `seen`: operation and status of each answer that was held against them."""

    def __init__(self, documents: dict[str, Any]) -> None:
        self._operations: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.seen: set[tuple[str, str]] = set()
        for document in documents.values():
            schemas = _closed(document["components"]["schemas"])
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    self._operations[f"{method} {path}"] = (_closed(operation["responses"]), schemas)
        # The create's 400 names no contract, and answers with one all the same (dstack PR 4036).
        refused = self._operations["put /api/v0/asks/{id}/"][0]["400"]["content"]["application/json"]["schema"]
        refused["properties"]["new_contract"] = {"type": "integer"}
        # What is gone is null, which the schema does not allow and clients have seen.
        shown = self._operations["get /api/v0/instances/{id}/"][0]["200"]["content"]["application/json"]["schema"]
        shown["properties"]["instances"] = {"anyOf": [shown["properties"]["instances"], {"type": "null"}]}

    def operations(self) -> set[str]:
        return set(self._operations)

    def check(self, answer: httpx.Response) -> None:
        """Fails when the specification does not allow `answer`, and no entry of BESIDE does."""
        operation = self._operation(answer.request.method.lower(), answer.request.url.path)
        status = str(answer.status_code)
        self.seen.add((operation or "none", status))
        responses, schemas = self._operations.get(operation or "", ({}, {}))
        if status in responses:
            schema = responses[status]["content"]["application/json"]["schema"]
            Draft202012Validator({**schema, "components": {"schemas": schemas}}).validate(answer.json())
            return
        assert ("*", status) in BESIDE, f"{operation} answers {status}: {answer.text}"
        if status != "429":
            Draft202012Validator(_ERROR).validate(answer.json())

    def _operation(self, method: str, path: str) -> str | None:
        fixed = f"{method} {path}"
        if fixed in self._operations:
            return fixed
        return next(
            (
                name
                for name in self._operations
                if name.startswith(f"{method} ") and re.fullmatch(name.split()[1].replace("{id}", "[^/]*"), path)
            ),
            None,
        )


def _closed(schema: Any) -> Any:
    """As JSON Schema, and closed: an object has no property that its schema does not name, as an emulator must invent none."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items() if key not in {"example", "description"}}
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    if closed.pop("nullable", False) is True and isinstance(closed.get("type"), str):
        closed["type"] = [closed["type"], "null"]
    return closed
