"""The JSON Schema of the configuration, for editors: they complete keys and mark mistakes while one types."""

from typing import Any

from pusher.config import ROLES
from pusher.config_file import CommonOptions, FileOptions
from pusher.sources import KINDS, source_module

__all__ = ["config_schema"]


def config_schema() -> dict[str, Any]:
    """The schema of `pusher.yaml`, for editors; `check` knows more, such as what a template asks for."""
    schema = FileOptions.model_json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    common = CommonOptions.model_json_schema()
    definitions |= common.pop("$defs", {})
    device: dict[str, Any] = dict(common["properties"])
    for role in ROLES:
        device[role] = {"const": True} if role == "load" else {"type": "integer", "minimum": 0, "maximum": 4}
    device["template"] = {"type": "string", "description": 'a device template; "nrgkick-pusher devices" lists them'}
    for kind in KINDS:
        options = source_module(kind).Options.model_json_schema()
        own = options.pop("$defs", {})
        definitions |= {f"{kind}.{name}": _renamed(definition, kind) for name, definition in own.items()}
        device[kind] = _renamed(options, kind)
    schema["properties"]["devices"]["items"] = {
        "type": "object",
        "properties": device,
        "oneOf": [{"required": [role]} for role in ROLES],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "NRGkick pusher", **schema}


def _renamed(node: Any, kind: str) -> Any:
    """`node` with its references pointing to the definitions of one kind of source."""
    if isinstance(node, dict):
        return {
            key: value.replace("#/$defs/", f"#/$defs/{kind}.") if key == "$ref" else _renamed(value, kind)
            for key, value in node.items()
        }
    return [_renamed(item, kind) for item in node] if isinstance(node, list) else node
