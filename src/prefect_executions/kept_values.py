"""That values come back from JSON, proven by their type and by the classes of their parts.

What a type says is what pydantic makes of JSON, so a part comes back if it is of exactly the class
that is said: a `str`, and no member of a `StrEnum`. To look at the classes costs a fraction of
decoding a value and comparing it. Where a type leaves open what comes back (it has validators,
say), the parts in that place are decoded and compared.

The places of a type are those of its core schema in pydantic:
https://docs.pydantic.dev/latest/api/pydantic_core_schema/
"""

from collections.abc import Callable, Mapping
from datetime import date
from enum import Flag
from functools import partial
from operator import attrgetter
from types import NoneType
from typing import Any
from uuid import UUID

import orjson
from pydantic_core import SchemaError, SchemaSerializer, SchemaValidator, core_schema

from prefect_executions import columns
from prefect_executions.columns import Check
from prefect_executions.sameness import find_difference

MAX_DEPTH = 200  # levels that pydantic's JSON parser reads

_AS_IS = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_UTC_Z

_Schema = Mapping[str, Any]
_ANY: _Schema = {"type": "any"}
_ATOMS = {"none": NoneType, "bool": bool, "int": int, "float": float, "str": str}

# What else a place may say that has no effect on what comes back.
_NEUTRAL = {"type", "ref", "metadata"}
_OF_DEFAULT = {"default", "default_factory", "default_factory_takes_data", "copy_default"}
_OF_FIELD = {"name", "init", "kw_only", "frozen", "required"}
_OF_CLASS = {"cls", "custom_init", "root_model", "post_init", "generic_origin", "frozen", "slots"}
_OF_FIELDS = {"computed_fields", "from_attributes", "model_name", "dataclass_name"}
_OF_CONFIG = {"title", "validate_by_alias", "validate_by_name", "hide_input_in_errors"}
_PRIVATE_INIT = "init_private_attributes"  # pydantic's own `model_post_init`


def written(value: Any) -> bytes:
    """Encode a value of which a `Proof` with `is_as_is` holds, as pydantic does.

    It runs no Python code, so that no other thread changes the value meanwhile.

    Raises:
        orjson.JSONEncodeError: It is no such value.
    """
    return orjson.dumps(value, default=attrgetter("__dict__"), option=_AS_IS)


class Proof:
    """Decides whether values of a type come back from JSON unchanged.

    Args:
        schema: The core schema of the type.
        with_ints: Whether an `int` may be where a `float` is said; it is written as one.

    Attributes:
        is_as_is: Whether `written` encodes those that come back as pydantic does.
    """

    def __init__(self, schema: Any, *, with_ints: bool = False) -> None:
        places = _Places(with_ints)
        try:
            self._check = places.whole(schema)
        except SchemaError:  # a part can't be looked at by itself, so all is to be compared
            self._check = lambda _, __: False
        self.is_as_is = places.is_as_is and not with_ints

    def holds(self, value: Any) -> bool:
        """Whether it is proven that a value comes back. If not, it may or may not."""
        try:
            return self._check([value], MAX_DEPTH)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            return False  # a part is missing, or odd: what it is shows when all is compared


class _SeesItsClass(Exception):
    """A place has code of its own, which may look at the instance that it is in."""


class _Places:
    """Makes the checks of the places of one type."""

    def __init__(self, with_ints: bool) -> None:
        self.are_floats = columns.are_numbers if with_ints else columns.are_floats
        self.is_as_is = True
        self.definitions: dict[str, _Schema] = {}
        self._known: dict[str, Check] = {}

    def whole(self, schema: _Schema) -> Check:
        """The check of the values of the type.

        Raises:
            SchemaError: pydantic can't look at some part of the type by itself.
        """
        if schema["type"] == "definitions":
            self.definitions = {each["ref"]: each for each in schema["definitions"]}
            schema = schema["schema"]
        try:
            return self.check(schema)
        except _SeesItsClass:
            return self.compared(schema)

    def check(self, schema: _Schema) -> Check:
        """The check of the values in a place.

        Raises:
            _SeesItsClass: See there.
        """
        kind = schema["type"]
        if kind.startswith("function") or "serialization" in schema:
            raise _SeesItsClass
        make = _PLACES.get(kind)
        return (make and make(self, schema)) or self.compared(schema)

    def compared(self, schema: _Schema) -> Check:
        """The check that encodes, decodes and compares."""
        self.is_as_is = False
        ref = schema.get("ref")
        is_defined = ref in self.definitions
        one: Any = core_schema.definition_reference_schema(ref or "") if is_defined else schema
        every: Any = core_schema.list_schema(one)
        if definitions := self._needed(one):
            every = core_schema.definitions_schema(every, definitions)
        serializer, validator = SchemaSerializer(every), SchemaValidator(every)

        def check(values: Any, _: int) -> bool:
            values = list(values)
            plain = serializer.to_python(
                values, mode="json", by_alias=True, round_trip=True, warnings="error"
            )
            if not columns.are_plain(plain, MAX_DEPTH):
                return False
            back = validator.validate_json(orjson.dumps(plain), by_alias=True, by_name=True)
            return find_difference(values, back, "") is None

        return check

    def _needed(self, schema: _Schema) -> list[Any]:
        """The definitions that a place refers to, and those that they refer to."""
        found: dict[str, _Schema] = {}
        left: list[Any] = [schema]
        while left:
            part = left.pop()
            if isinstance(part, dict):
                ref = part.get("schema_ref")
                if ref in self.definitions and ref not in found:
                    found[ref] = self.definitions[ref]
                    left.append(found[ref])
                left += [it for name, it in part.items() if name not in ("default", "metadata")]
            elif isinstance(part, list | tuple):
                left += part
        return list(found.values())

    def reference(self, ref: str) -> Check:
        """The check of a place whose type is defined elsewhere, perhaps around it."""
        if ref not in self._known:
            self._known[ref] = columns.of(NoneType)  # until it is made; nothing calls it before
            self._known[ref] = self.check(self.definitions[ref])

        def check(values: Any, levels: int) -> bool:
            values = list(values)
            return not values or self._known[ref](values, levels)

        return check

    def fields(self, schema: _Schema, config: _Schema) -> dict[str, Check] | None:
        """The checks of fields, by their names; None if more decides about what comes back."""
        fields: dict[str, _Schema] = schema["fields"]
        extra = {config.get("extra_fields_behavior"), schema.get("extra_behavior")}
        more = config.keys() - _OF_CONFIG - {"extra_fields_behavior"}
        if more or "allow" in extra or not self._are_read_as_written(fields):
            return None
        try:
            return {name: self.check(each["schema"]) for name, each in fields.items()}
        except _SeesItsClass:
            return None

    def _are_read_as_written(self, fields: Mapping[str, _Schema]) -> bool:
        known: list[str] = []
        for name, field in fields.items():
            alias = field.get("validation_alias")
            read = {name, alias} if isinstance(alias, str) else {name}
            as_ = field.get("serialization_alias", name)
            aliases = "validation_alias", "serialization_alias"
            if as_ not in read or not _says_only(field, "schema", *aliases, *_OF_FIELD):
                return False
            self.is_as_is = self.is_as_is and as_ == name
            known += read
        return len(known) == len(set(known))


def _says_only(schema: _Schema, *said: str) -> bool:
    return not schema.keys() - _NEUTRAL - set(said)


def _limited(schema: _Schema, check: Check, *parts: str) -> Check:
    """A check of values that have to be in limits, too, when they are decoded."""
    bare: Any = {name: it for name, it in schema.items() if name not in (*parts, "ref", "metadata")}
    if bare.keys() == {"type"}:
        return check
    validator = SchemaValidator(core_schema.list_schema(bare))

    def is_valid(values: Any, _: int) -> bool:
        return bool(validator.validate_python(values) == values)

    return columns.both(check, is_valid)


# ------------------------------------------------------------------ the kinds of places


def _of_atom(places: _Places, schema: _Schema) -> Check | None:
    kind = _ATOMS[schema["type"]]
    return _limited(schema, places.are_floats if kind is float else columns.of(kind))


def _of_any(_: _Places, schema: _Schema) -> Check | None:
    return columns.are_plain if _says_only(schema) else None


def _of_reference(places: _Places, schema: _Schema) -> Check | None:
    return places.reference(schema["schema_ref"]) if _says_only(schema, "schema_ref") else None


def _of_default(places: _Places, schema: _Schema) -> Check | None:
    inner = places.check(schema["schema"])
    return inner if _says_only(schema, "schema", *_OF_DEFAULT) else None


def _of_nullable(places: _Places, schema: _Schema) -> Check | None:
    inner = places.check(schema["schema"])
    return columns.nullable(inner) if _says_only(schema, "schema") else None


def _of_literal(_: _Places, schema: _Schema) -> Check | None:
    expected = schema["expected"]
    if not _says_only(schema, "expected") or not columns.are(str, expected):
        return None
    return partial(columns.are_among, frozenset(expected))


def _of_enum(_: _Places, schema: _Schema) -> Check | None:
    kind, data = schema["cls"], [member.value for member in schema["members"]]
    if issubclass(kind, Flag) or not _says_only(schema, "cls", "members", "sub_type"):
        return None
    is_clear = columns.are(str, data) or columns.are(int, data)
    return columns.of(kind) if is_clear else None


def _of_union(_: _Places, schema: _Schema) -> Check | None:
    """Of atoms, which JSON tells from one another."""
    choices = [each for each in schema["choices"] if isinstance(each, dict) and _says_only(each)]
    kinds = frozenset(_ATOMS[each["type"]] for each in choices if each["type"] in _ATOMS)
    if len(kinds) != len(schema["choices"]) or not _says_only(schema, "choices"):
        return None
    return partial(columns.are_of_kinds, kinds)


def _of_tagged_union(places: _Places, schema: _Schema) -> Check | None:
    tag, said = schema["discriminator"], ("discriminator", "choices", "from_attributes", "strict")
    if not isinstance(tag, str) or not _says_only(schema, *said):
        return None
    tags: dict[type, set[str]] = {}
    checks: dict[type, Check] = {}
    for name, choice in schema["choices"].items():
        known = places.definitions.get(choice.get("schema_ref", ""), choice)
        if known["type"] not in ("model", "dataclass") or type(name) is not str:
            return None
        checks[known["cls"]] = places.check(choice)
        tags.setdefault(known["cls"], set()).add(name)
    return columns.tagged(tag, tags, checks)


def _of_datetime(_: _Places, schema: _Schema) -> Check | None:
    return columns.are_times if _says_only(schema, "microseconds_precision") else None


def _of_date(_: _Places, schema: _Schema) -> Check | None:
    return columns.of(date) if _says_only(schema) else None


def _of_uuid(_: _Places, schema: _Schema) -> Check | None:
    return columns.of(UUID) if _says_only(schema) else None


def _of_list(places: _Places, schema: _Schema) -> Check | None:
    inner = places.check(schema.get("items_schema", _ANY))
    return _limited(schema, columns.lists(inner), "items_schema")


def _of_tuple(places: _Places, schema: _Schema) -> Check | None:
    items = list(map(places.check, schema["items_schema"]))
    at = schema.get("variadic_item_index")
    if not _says_only(schema, "items_schema", "variadic_item_index"):
        return None
    if at is None:
        return columns.tuples(items)
    return columns.lists(items[0], tuple) if len(items) == 1 else None


def _of_dict(places: _Places, schema: _Schema) -> Check | None:
    keys = schema.get("keys_schema", _ANY)
    if keys["type"] not in ("any", "str", "literal"):
        return None
    inner = places.check(schema.get("values_schema", _ANY))
    check = columns.dicts(places.check(keys), inner)
    return _limited(schema, check, "keys_schema", "values_schema")


def _of_typed_dict(places: _Places, schema: _Schema) -> Check | None:
    fields = places.fields(schema, schema.get("config", {}))
    said = ("fields", "cls", "config", "extra_behavior", *_OF_FIELDS)
    if fields is None or not _says_only(schema, *said):
        return None
    needed = [name for name, each in schema["fields"].items() if each.get("required", True)]
    return columns.typed_dicts(fields, frozenset(needed))


def _of_model(places: _Places, schema: _Schema) -> Check | None:
    inside, post_init = schema["schema"], schema.get("post_init")
    if schema.get("custom_init") or schema.get("root_model") or inside["type"] != "model-fields":
        return None
    if post_init and getattr(schema["cls"], post_init).__name__ != _PRIVATE_INIT:
        return None
    return _of_instances(places, schema, inside)


def _of_dataclass(places: _Places, schema: _Schema) -> Check | None:
    inside = schema["schema"]
    if schema.get("post_init") or schema.get("slots") or inside["type"] != "dataclass-args":
        return None
    if inside.get("collect_init_only") or not all(it.get("init", True) for it in inside["fields"]):
        return None
    named = {field["name"]: field for field in inside["fields"]}
    return _of_instances(places, schema, {**inside, "fields": named})


def _of_instances(places: _Places, schema: _Schema, inside: _Schema) -> Check | None:
    fields = places.fields(inside, schema.get("config", {}))
    if fields is None or not _says_only(schema, "schema", "config", "fields", *_OF_CLASS):
        return None
    if not _says_only(inside, "fields", "extra_behavior", "collect_init_only", *_OF_FIELDS):
        return None
    return columns.instances(schema["cls"], fields)


_PLACES: dict[str, Callable[[_Places, _Schema], Check | None]] = {
    **dict.fromkeys(_ATOMS, _of_atom),
    "any": _of_any,
    "definition-ref": _of_reference,
    "default": _of_default,
    "nullable": _of_nullable,
    "literal": _of_literal,
    "enum": _of_enum,
    "union": _of_union,
    "tagged-union": _of_tagged_union,
    "datetime": _of_datetime,
    "date": _of_date,
    "uuid": _of_uuid,
    "list": _of_list,
    "tuple": _of_tuple,
    "dict": _of_dict,
    "typed-dict": _of_typed_dict,
    "model": _of_model,
    "dataclass": _of_dataclass,
}
