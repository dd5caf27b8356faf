"""The contract as documents: JSON Schemas of what travels, and OpenAPI 3.1 of every path.

`python -m schemas.contract` (or `make schemas`) writes them beside this file, from the models; a test fails when what
is written drifts from the models or from the function's routes.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, create_model
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from schemas.document import DeviceInfo, DeviceValues, Part
from schemas.history import RESOLUTIONS, History
from schemas.messages import LiveAnswer, LivePost, ReadingsAnswer, ReadingsPost, Row, Whoami
from schemas.overview import FleetOverview, SiteOverview, SitePage
from schemas.problem import Problem
from schemas.site import NAME_PATTERN, SettingsPut

__all__ = ["OPERATIONS", "Operation", "documents", "openapi"]

HERE = Path(__file__).parent


class ValuesDocument(Part):
    """`values.json`: what the wallbox polls."""

    device_values: DeviceValues


class InfoDocument(Part):
    """`info.json`: what the devices are."""

    device_info: DeviceInfo


class Health(Part):
    """Answer to `GET /health`."""

    status: Literal["ok"]


class Deleted(Part):
    """Answer to `DELETE /api/v1/sites/{site}`."""

    site: str
    status: Literal["deleted"]


@dataclass(frozen=True)
class Operation:
    """One method of one path: who may call it, what goes in, what comes out."""

    summary: str
    scope: str | None
    """Scope of the token, or None where no token is asked for."""
    answer: type[BaseModel] | str
    """Model of a 200's body, or a media type for one that is not JSON."""
    body: type[BaseModel] | None = None
    statuses: tuple[int, ...] = ()
    """Statuses besides those that follow from scope and body."""
    query: Mapping[str, Any] = field(default_factory=dict)
    """Query parameters: name to JSON Schema; all are optional."""
    or_else: str | None = None
    """Another media type that a 200 may have, where the query asks for it."""


OPERATIONS: dict[str, dict[str, Operation]] = {
    "/api/v1/values.json": {
        "get": Operation("The fresh devices' values, as the wallbox polls them", "read", ValuesDocument, None, (503,))
    },
    "/api/v1/info.json": {
        "get": Operation("What the devices are, as the wallbox asks for it", "read", InfoDocument, None, (503,))
    },
    "/api/v1/live": {
        "post": Operation("Live lane: the newest reading of some devices", "push", LiveAnswer, LivePost, (503,))
    },
    "/api/v1/readings": {
        "post": Operation("Archive lane: rows of history", "push", ReadingsAnswer, ReadingsPost, (503,))
    },
    "/api/v1/whoami": {"get": Operation("What the token is good for", "any", Whoami, None, (503,))},
    "/api/v1/sites": {
        "get": Operation(
            "The sites by name, a page at a time",
            "fleet",
            SitePage,
            None,
            (503,),
            {
                "page_size": {"type": "integer", "minimum": 1, "maximum": 500, "default": 100},
                "page_token": {"type": "string", "description": "next_page_token of the page before"},
            },
        )
    },
    "/api/v1/fleet": {"get": Operation("Sums over all sites", "fleet", FleetOverview, None, (503,))},
    "/api/v1/sites/{site}/history": {
        "get": Operation(
            "History in steps, as JSON or CSV",
            "read",
            History,
            None,
            (404, 503),
            {
                "from": {"type": "string", "description": "RFC 3339 time, or a day; default: the beginning of today"},
                "to": {"type": "string", "description": "RFC 3339 time, or a day; default: now"},
                "resolution": {"type": "string", "enum": list(RESOLUTIONS), "default": "15m"},
                "format": {"type": "string", "enum": ["json", "csv"], "default": "json"},
            },
            "text/csv",
        )
    },
    "/api/v1/sites/{site}/chart.svg": {
        "get": Operation(
            "A day's power, or several days' energy, as a picture",
            "read",
            "image/svg+xml",
            None,
            (404, 503),
            {
                "day": {"type": "string", "format": "date", "description": "the last day shown; default: today"},
                "days": {"type": "integer", "minimum": 1, "maximum": 31, "default": 1},
            },
        )
    },
    "/api/v1/sites/{site}": {
        "get": Operation("All that is known of one site", "read", SiteOverview, None, (404, 503)),
        "put": Operation("Replace a site's settings; make the site", "admin", SiteOverview, SettingsPut, (503,)),
        "delete": Operation("Remove a site with its history", "admin", Deleted, None, (404, 503)),
    },
    "/health": {"get": Operation("Liveness", None, Health)},
    "/openapi.json": {"get": Operation("This document", None, "application/json")},
}
"""Every path of the function, but the web page's."""

STATUS_WORDS = {
    400: "not JSON",
    401: "no token, or one that does not count",
    403: "the token's scope or site is another",
    404: "no such site",
    408: "the body did not arrive in time",
    413: "body over 256 KiB, also after gunzip",
    415: "not JSON, or a content coding other than gzip",
    422: "does not fit the model, or the clock is off",
    429: "over the token's rate",
    503: "store unreachable or contended, or nothing to tell",
}


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the function."""
    models: list[type[BaseModel]] = [Problem, Row]
    for operation in _operations():
        models += [model for model in (operation.answer, operation.body) if isinstance(model, type)]
    _, schemas = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)],
        ref_template="#/components/schemas/{model}",
    )
    definitions = schemas["$defs"]
    definitions["ReadingsPost"]["properties"]["readings"]["items"] = {"$ref": "#/components/schemas/Row"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nrgkick-cloud",
            "version": version("nrgkick-cloud"),
            "description": "Readings of a house's devices in, the NRGkick wallbox's Custom API documents out.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            path: {"parameters": _path_parameters(path)} | {method: _described(it) for method, it in methods.items()}
            for path, methods in OPERATIONS.items()
        },
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "header": {"type": "apiKey", "in": "header", "name": "X-NRGkick-Token"},
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    }


def documents() -> dict[str, dict[str, Any]]:
    """Every file that is kept beside this module, by name."""
    single: dict[str, type[BaseModel]] = {
        "device_values": ValuesDocument,
        "device_info": InfoDocument,
        "live_post": LivePost,
        "live_answer": LiveAnswer,
        "readings_post": create_model("ReadingsPost", __base__=ReadingsPost, readings=(list[Row], ...)),
        "readings_answer": ReadingsAnswer,
        "settings": SettingsPut,
        "site": SiteOverview,
        "problem": Problem,
    }
    written = {
        f"{name}.schema.json": {"$schema": GenerateJsonSchema.schema_dialect, **model.model_json_schema()}
        for name, model in single.items()
    }
    return {"openapi.json": openapi(), **written}


def _operations() -> list[Operation]:
    return [operation for methods in OPERATIONS.values() for operation in methods.values()]


def _path_parameters(path: str) -> list[dict[str, Any]]:
    if "{site}" not in path:
        return []
    return [{"name": "site", "in": "path", "required": True, "schema": {"type": "string", "pattern": NAME_PATTERN}}]


def _described(operation: Operation) -> dict[str, Any]:
    statuses = set(operation.statuses)
    if operation.scope:
        statuses |= {401, 403, 429} if operation.scope != "any" else {401, 429}
    if operation.body:
        statuses |= {400, 408, 413, 415, 422}
    described: dict[str, Any] = {"summary": operation.summary, "responses": {"200": _success(operation)}}
    if operation.query:
        statuses.add(422)
        described["parameters"] = [
            {"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()
        ]
    if operation.body:
        reference = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status in sorted(statuses):
        described["responses"][str(status)] = {"description": STATUS_WORDS[status], "content": problem}
    described["security"] = [{"header": []}, {"bearer": []}] if operation.scope else []
    if operation.scope:
        described["description"] = f"Scope: {operation.scope}."
    return described


def _success(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any]
    if isinstance(operation.answer, str):
        content = {operation.answer: {}}
    else:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{operation.answer.__name__}"}}}
    if operation.or_else:
        content[operation.or_else] = {}
    return {"description": "as asked", "content": content}


def main() -> None:
    """Write every document anew."""
    for name, document in documents().items():
        (HERE / name).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        sys.stdout.write(f"schemas/{name}\n")


if __name__ == "__main__":
    main()
