"""An OpenAPI document of this service as Markdown."""

import json
from collections.abc import Iterator
from typing import Any

from prefect_executions.service.responses import CODES, EVERYWHERE

_VALUES = (  # the first ones, in this order
    "Execution",
    "ExecutionConfig",
    "PrefectRun",
    "ForkOrigin",
    "StepBehind",
    "Checkpoint",
    "Saved",
    "Standing",
    "Summary",
    "BulkItem",
    "Refusal",
    "Diff",
    "Cost",
    "Problem",
)
SCHEMA = "#/components/schemas/"


def markdown(document: dict[str, Any]) -> str:
    """An OpenAPI document of this service as Markdown."""
    return "\n\n".join(_parts(document)) + "\n"


def _parts(document: dict[str, Any]) -> Iterator[str]:
    schemas = document["components"]["schemas"]
    yield "# HTTP API"
    yield "<!-- Made by `make docs` of the routes and the guide beside them. -->"
    yield document["info"]["description"].strip()
    for tag in document["tags"]:
        yield f"## {tag['name'][0].upper()}{tag['name'][1:]}"
        yield tag["description"].strip()
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation.get("tags", []):
                    yield from _operation(method, path, operation, schemas)
    yield "## Values"
    for name in _values(document):
        yield f"### {name}"
        yield schemas[name]["description"]
        yield _fields(schemas[name], schemas, always=name not in ("ExecutionConfig", "Problem"))
    yield "## Errors"
    yield (
        "`application/problem+json` (RFC 9457), with a `code` that never changes and, for a wrong "
        "field, `errors: [{field, problem}]`."
    )
    rows = [f"| {status.value} | `{code}` | {text} |" for code, (status, text) in CODES.items()]
    yield "\n".join(["| status | `code` | |", "|---|---|---|", *rows])
    everywhere = ", ".join(f"`{code}`" for code in EVERYWHERE)
    yield f"Every route may answer {everywhere}, and none says so again above."


def _values(document: dict[str, Any]) -> list[str]:
    """The objects in answers: schemas with fields that are not the body of a request."""
    bodies = {
        option.get("$ref", "").removeprefix(SCHEMA)
        for methods in document["paths"].values()
        for operation in methods.values()
        if "requestBody" in operation
        for schema in [_json_of(operation["requestBody"]["content"])]
        for option in [schema, *schema.get("anyOf", [])]
    }
    schemas = document["components"]["schemas"]
    objects = {name for name, schema in schemas.items() if "properties" in schema}
    return [*_VALUES, *sorted(objects - bodies - {*_VALUES})]


def _operation(
    method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]
) -> Iterator[str]:
    yield f"### {operation['summary']}"
    yield f"`{method.upper()} {path}`"
    # The description is wrapped as in the source.
    yield "\n".join(line.strip() for line in operation["description"].splitlines())
    parameters = [
        f"| `{p['name']}`{_star(p.get('required'))} | {p['in']} | {_about(p['schema'], schemas)} | "
        f"{p.get('description', '')} |"
        for p in operation.get("parameters", [])
    ]
    if parameters:
        yield "\n".join(["| parameter | in | | |", "|---|---|---|---|", *parameters])
    if body := operation.get("requestBody"):
        yield _fields(_resolved(_json_of(body["content"]), schemas), schemas)
    yield "Answers: " + "; ".join(_answers(operation)) + "."


def _answers(operation: dict[str, Any]) -> Iterator[str]:
    for status, answer in sorted(operation["responses"].items()):
        content = answer.get("content", {})
        codes = [code for code in CODES if f"`{code}`" in answer["description"]]
        if codes:
            own = [f"`{code}`" for code in codes if code not in EVERYWHERE]
            yield from [f"{status} " + ", ".join(own)] if own else []
        elif "application/json" in content and (ref := _json_of(content).get("$ref")):
            yield f"**{status}** {ref.removeprefix(SCHEMA)}"
        else:
            yield f"**{status}** {answer['description'].rstrip('.')}"


def _json_of(content: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = content["application/json"]["schema"]
    return schema


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    if len(options) == 1:
        return _resolved(options[0], schemas)
    if ref := schema.get("$ref"):
        found: dict[str, Any] = schemas[ref.removeprefix(SCHEMA)]
        return found
    return schema


def _fields(schema: dict[str, Any], schemas: dict[str, Any], *, always: bool = False) -> str:
    """The fields of an object; required ones have a star, unless all are always present."""
    required = [] if always else schema.get("required", [])
    rows = [
        f"| `{name}`{_star(name in required)} | {_about(field, schemas)} | "
        f"{field.get('description') or _resolved(field, schemas).get('description', '')} |"
        for name, field in schema.get("properties", {}).items()
    ]
    return "\n".join(["| field | | |", "|---|---|---|", *rows])


def _star(required: Any) -> str:
    return "*" if required else ""


def _about(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    """The type of a value, its limits and its default."""
    found = _resolved(schema, schemas)
    words = [_type(schema, schemas)]
    limits = {
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
        "minimum": "from {}",
        "exclusiveMinimum": "over {}",
        "maximum": "to {}",
        "minItems": "at least {}",
        "maxItems": "at most {}",
    }
    words += [text.format(f"{found[name]:,g}") for name, text in limits.items() if name in found]
    if schema.get("default") not in (None, {}, []):
        default = schema["default"]
        words.append(f"by default `{default if isinstance(default, str) else json.dumps(default)}`")
    return ", ".join(word for word in words if word)


def _type(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    found = _resolved(schema, schemas)
    if "enum" in found:
        return " ".join(f"`{value}`" for value in found["enum"])
    if "const" in found:
        return f"`{found['const']}`"
    if "anyOf" in found:
        return " or ".join(_type(option, schemas) for option in found["anyOf"])
    options = [schema, *schema.get("anyOf", [])]
    if ref := next((option["$ref"] for option in options if "$ref" in option), None):
        return str(ref).removeprefix(SCHEMA)
    if found.get("type") == "array":
        return f"list of {_type(found['items'], schemas)}"
    return str(found.get("format") or found.get("type") or "any")
