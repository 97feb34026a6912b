"""A launch request, checked field by field as Lambda's OpenAPI 1.10.0 describes it."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from broker.sandbox.emulators.lambda_catalogue import InstanceType, images
from broker.sandbox.emulators.lambda_errors import invalid, no_resource

_HOSTNAME = re.compile(r"[a-z0-9][0-9a-z-]{0,62}")
_TAG_KEY = re.compile(r"[a-z][a-z0-9-:]+")
_USER_DATA_BYTES = 1024 * 1024
_FIELDS = frozenset(
    [
        "region_name",
        "instance_type_name",
        "ssh_key_names",
        "name",
        "hostname",
        "image",
        "user_data",
        "tags",
        "file_system_names",
        "file_system_mounts",
        "firewall_rulesets",
    ]
)


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """What is to be launched; None and empty: not given."""

    kind: InstanceType
    region: str
    key_name: str
    name: str | None
    hostname: str | None
    user_data: str
    tags: list[dict[str, str]]


def read_launch(body: Mapping[str, Any], types: Mapping[str, InstanceType], regions: Collection[str]) -> LaunchRequest:
    """Read a launch's body. ApiError: the first thing that is wrong with it."""
    only(body, _FIELDS)
    kind = types.get(_text(body, "instance_type_name") or "")
    if kind is None:
        raise invalid(f"Instance type {body.get('instance_type_name')} does not exist")
    region = _text(body, "region_name")
    if region is None or region not in regions:
        raise invalid(f"Region {body.get('region_name')} does not exist")
    names = body.get("ssh_key_names")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise invalid("ssh_key_names: a list with exactly one name of an SSH key is needed")
    _check_image(body.get("image"), kind, region)
    _check_nothing_attached(body)
    hostname = _text(body, "hostname")
    if hostname is not None and not _HOSTNAME.fullmatch(hostname):
        raise invalid("hostname: lower-case letters, digits and dashes, at most 63")
    user_data = _text(body, "user_data") or ""
    if len(user_data.encode()) > _USER_DATA_BYTES:
        raise invalid("user_data: at most 1 MB")
    return LaunchRequest(
        kind=kind,
        region=region,
        key_name=names[0],
        name=instance_name(body),
        hostname=hostname,
        user_data=user_data,
        tags=_tags(body.get("tags", [])),
    )


def only(body: Mapping[str, Any], fields: Collection[str]) -> None:
    """ApiError: `body` has a field that the contract does not name."""
    if unknown := sorted(set(body) - set(fields)):
        raise invalid(f"unknown fields: {', '.join(unknown)}")


def instance_name(body: Mapping[str, Any]) -> str | None:
    """The `name` of a launch or of a renaming. ApiError: no text, or longer than 64 characters."""
    name = _text(body, "name")
    if name is not None and len(name) > 64:
        raise invalid("name: at most 64 characters")
    return name


def _text(body: Mapping[str, Any], field: str) -> str | None:
    if field not in body:
        return None
    if not isinstance(body[field], str):
        raise invalid(f"{field}: a text is needed")
    return str(body[field])


def _check_image(image: object, kind: InstanceType, region: str) -> None:
    if image is None:
        return
    if not isinstance(image, Mapping) or len(image) != 1 or not set(image) <= {"id", "family"}:
        raise invalid("image: an object with either id or family is needed")
    ((field, value),) = image.items()
    fitting = [one for one in images() if one[field] == value]
    if not fitting:
        raise no_resource(f"Image {value}")
    if not any(one["architecture"] == kind.architecture and one["region"]["name"] == region for one in fitting):
        raise invalid(f"image: not for {kind.architecture} in {region}, as {kind.name} there needs it")


def _check_nothing_attached(body: Mapping[str, Any]) -> None:
    """The emulated accounts own no file systems and no firewall rulesets, so whatever is named is missing."""
    for field, id_of in (
        ("file_system_names", None),
        ("file_system_mounts", "file_system_id"),
        ("firewall_rulesets", "id"),
    ):
        rows = body.get(field, [])
        if not isinstance(rows, list):
            raise invalid(f"{field}: a list is needed")
        for row in rows:
            name = row.get(id_of) if id_of and isinstance(row, Mapping) else row
            if not isinstance(name, str):
                raise invalid(f"{field}: each entry needs {id_of or 'to be a name'}")
            raise no_resource(f"{field} {name}")


def _tags(rows: object) -> list[dict[str, str]]:
    if not isinstance(rows, list):
        raise invalid("tags: a list is needed")
    for row in rows:
        if not isinstance(row, Mapping) or set(row) != {"key", "value"}:
            raise invalid("tags: each tag is an object with key and value")
        key, value = row["key"], row["value"]
        if not isinstance(key, str) or not _TAG_KEY.fullmatch(key) or len(key) > 55:
            raise invalid("tags: a key is lower-case letters, digits, dashes and colons, at most 55")
        if not isinstance(value, str) or len(value) > 128:
            raise invalid("tags: a value is a text of at most 128")
    return [{"key": row["key"], "value": row["value"]} for row in rows]
