"""The fields of a form, made from the JSON schema of what is asked.

A schema that no field of a form fits (a union, a mapping, one that contains itself) gets a text
area for JSON, so that everything can be answered.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

DEEPEST = 4  # objects in objects that have fields of their own; further down it is JSON
_EMPTY_ROWS = 2
_ROWS = 100  # of a list of objects

Posted = Mapping[str, Sequence[str]]
Schema = dict[str, Any]


class FieldKind(StrEnum):
    """How a value is asked for."""

    TEXT = "text"
    WHOLE = "whole"
    NUMBER = "number"
    YES_NO = "yes-no"
    DATE = "date"
    TIME = "time"
    MOMENT = "moment"
    CHOICE = "choice"  # one of some
    CHOICES = "choices"  # some of some
    LINES = "lines"  # a list, an item a line
    OBJECT = "object"
    ROWS = "rows"  # a list of objects
    FIXED = "fixed"  # there is one value only
    JSON = "json"


_SIMPLE = {
    "string": FieldKind.TEXT,
    "integer": FieldKind.WHOLE,
    "number": FieldKind.NUMBER,
    "boolean": FieldKind.YES_NO,
}
_FORMATS = {"date": FieldKind.DATE, "time": FieldKind.TIME, "date-time": FieldKind.MOMENT}


@dataclass(kw_only=True)
class Field:
    """A value that is asked for.

    Args:
        name: Of the control in the form.
        path: Where its value is in the answer.
        label: What people read beside it; "" for a row, which has a number.
        kind: How it is asked for.
        schema: The JSON schema of its value, without references and null.
        required: Whether the answer must have it.
        nullable: Whether it may be null.
        raw: What is in the controls: what was typed, or the default; None where nothing was posted.
        fields: Of an object: its fields; of a list of objects: its rows.
        error: Why what was typed is refused; "" when it is not.
    """

    name: str
    path: tuple[str | int, ...]
    label: str
    kind: FieldKind
    schema: Schema
    required: bool = True
    nullable: bool = False
    raw: list[str] = field(default_factory=list)
    fields: list["Field"] = field(default_factory=list)
    error: str = ""

    @property
    def help(self) -> str:
        """What the schema says about it."""
        return f"{self.schema.get('description', '')}"

    @property
    def value(self) -> str:
        """What is in its only control."""
        return self.raw[0] if self.raw else ""

    @property
    def has_default(self) -> bool:
        """Whether the answer may leave it out, and the schema says what it is then."""
        return "default" in self.schema

    @property
    def may_be_empty(self) -> bool:
        """Whether nothing has a meaning of its own: null, or a value that only the flow knows."""
        is_known = self.schema.get("default") is not None
        return self.nullable or not (self.required or is_known)

    @property
    def item(self) -> "Field":
        """An item of a list, as a field."""
        kind, schema, _ = _kind(_plain(self.schema.get("items", {}), {})[0], 0)
        return Field(name=self.name, path=self.path, label=self.label, kind=kind, schema=schema)

    @property
    def options(self) -> list[Any]:
        """The values to choose from."""
        listed = self.item.schema if self.kind is FieldKind.CHOICES else self.schema
        found: list[Any] = listed.get("enum", [])
        return [each for each in found if each is not None]

    def each(self) -> "list[Field]":
        """It, and all fields in it."""
        return [self, *(inner for part in self.fields for inner in part.each())]


def field_of(schema: Schema, posted: Posted | None = None, more: str = "") -> Field:
    """The field of an object, with those of its properties.

    Args:
        schema: The JSON schema of the object.
        posted: What was typed, by the names of controls; None for the defaults of the schema.
        more: The name of the list of objects that is to have one more row.
    """
    maker = _Maker(schema.get("$defs", {}), posted, more)
    return maker.make(schema, name="answer", path=(), label="")


@dataclass(frozen=True)
class _Maker:
    definitions: Schema
    posted: Posted | None
    more: str

    def make(
        self,
        schema: Schema,
        *,
        name: str,
        path: tuple[str | int, ...],
        label: str,
        required: bool = True,
        depth: int = 0,
        given: Any = None,
    ) -> Field:
        """A field; `given` is its default, where a default of what is around it has one."""
        plain, nullable = _plain(schema, self.definitions)
        if "items" in plain:
            plain = {**plain, "items": _plain(plain["items"], self.definitions)[0]}
        kind, plain, is_open = _kind(plain, depth)
        made = Field(
            name=name,
            path=path,
            label=label,
            kind=kind,
            schema=plain,
            required=required,
            nullable=nullable or is_open,
        )
        default = plain.get("default") if given is None else given
        if kind is FieldKind.OBJECT:
            made.fields = self._properties(made, default, depth)
        elif kind is FieldKind.ROWS:
            made.fields = self._rows(made, default, depth)
        elif self.posted is not None:
            made.raw = list(self.posted.get(name, ()))
        elif default is not None:
            made.raw = shown(made, default)
        return made

    def _properties(self, around: Field, given: Any, depth: int) -> list[Field]:
        required, known = around.schema.get("required", []), given if _is_object(given) else {}
        return [
            self.make(
                schema,
                name=f"{around.name}.{key.replace('~', '~0').replace('.', '~1')}",
                path=(*around.path, key),
                label=_label(key, schema.get("title", "")),
                required=key in required,
                depth=depth + 1,
                given=known.get(key),
            )
            for key, schema in around.schema["properties"].items()
        ]

    def _rows(self, around: Field, given: Any, depth: int) -> list[Field]:
        known = given if isinstance(given, list) else []
        return [
            self.make(
                around.schema["items"],
                name=f"{around.name}.{number}",
                path=(*around.path, number),
                label="",
                depth=depth + 1,
                given=known[number] if number < len(known) else None,
            )
            for number in range(min(self._count(around, len(known)), _ROWS))
        ]

    def _count(self, around: Field, given: int) -> int:
        """How many rows a list of objects has: those that were there, and some empty ones."""
        if self.posted is None:
            return max(given + _EMPTY_ROWS, int(around.schema.get("minItems", 0)))
        start = len(around.name) + 1
        inside = (name[start:] for name in self.posted if name.startswith(f"{around.name}."))
        numbers = [int(head) for name in inside if (head := name.partition(".")[0]).isdecimal()]
        return max(numbers, default=-1) + 1 + (around.name == self.more)


def shown(made: Field, value: Any) -> list[str]:
    """A value as it is put in the controls of a field."""
    match made.kind:
        case FieldKind.CHOICES | FieldKind.LINES if isinstance(value, list):
            each = [shown(made.item, item)[0] for item in value]
            return each if made.kind is FieldKind.CHOICES else ["\n".join(each)]
        case FieldKind.YES_NO | FieldKind.CHOICE | FieldKind.JSON | FieldKind.FIXED:
            return [as_json(value)]
        case FieldKind.MOMENT:
            return [f"{value}"[:19]]
        case _:
            return [f"{value}"]


def as_json(value: Any) -> str:
    """A value as JSON that people read, and that tells 1 from "1"."""
    return json.dumps(value, ensure_ascii=False)


def _kind(schema: Schema, depth: int) -> tuple[FieldKind, Schema, bool]:
    """How a value of a schema is asked for; the schema; and whether it may also be null."""
    is_open = isinstance(schema.get("type"), list) and "null" in schema["type"]
    if is_open and len(schema["type"]) == 2:
        schema = {**schema, "type": next(each for each in schema["type"] if each != "null")}
    if "const" in schema:
        return FieldKind.FIXED, schema, is_open
    if "enum" in schema:
        return FieldKind.CHOICE, schema, is_open or None in schema["enum"]
    type_, items = schema.get("type"), schema.get("items")
    kind = FieldKind.JSON
    if type_ in _SIMPLE:
        kind = _FORMATS.get(schema.get("format", ""), _SIMPLE[type_])
        kind = kind if type_ == "string" else _SIMPLE[type_]
    elif type_ == "object" and schema.get("properties") is not None and depth < DEEPEST:
        kind = (
            FieldKind.OBJECT
            if not _is_object(schema.get("additionalProperties"))
            else FieldKind.JSON
        )
    elif type_ == "array" and isinstance(items, dict) and "prefixItems" not in schema:
        item = _kind(dict(items), depth + 1)[0]
        if item is FieldKind.CHOICE:
            kind = FieldKind.CHOICES
        elif item in (FieldKind.TEXT, FieldKind.WHOLE, FieldKind.NUMBER, FieldKind.DATE):
            kind = FieldKind.LINES
        elif item is FieldKind.OBJECT:
            kind = FieldKind.ROWS
    return kind, schema, is_open


def _plain(schema: Any, definitions: Schema) -> tuple[Schema, bool]:
    """A schema without references at its top, and without null; and whether null is allowed."""
    if not _is_object(schema):
        return {}, False
    seen: set[str] = set()
    nullable = False
    while True:
        around = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        choices = schema.get("anyOf") or schema.get("oneOf")
        if (name := schema.get("$ref", "").rpartition("/")[2]) and name not in seen:
            seen.add(name)
            schema = {**definitions.get(name, {}), **around}
        elif len(schema.get("allOf", ())) == 1:
            schema = {**schema["allOf"][0], **around}
        elif choices and {"type": "null"} in choices and len(choices) == 2:
            nullable = True
            one = next(each for each in choices if each != {"type": "null"})
            rest = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
            schema = {**one, **rest}
        else:
            return schema, nullable


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _label(key: str, title: str) -> str:
    """What people read: the title, or words made of the key where pydantic has made the title."""
    if title and title.casefold().replace(" ", "_") != key.casefold():
        return title
    return key.replace("_", " ").strip().capitalize() or key
