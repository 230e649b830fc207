"""What was typed into a form: the JSON value that it makes, and what is wrong with it."""

import json
import re
from datetime import date, datetime, time
from typing import Any, TypeVar

from prefect.utilities.schema_tools.validation import CircularSchemaRefError, validate
from prefect.utilities.schema_tools.validation import ValidationError as UnusableSchema
from pydantic import BaseModel, ValidationError

from prefect_executions.service.inspector.fields import Field, FieldKind, Schema, shown

M = TypeVar("M", bound=BaseModel)

_NOTHING: Any = object()  # the answer leaves it out
_MISSING = "Give a value."


class _Unfit(ValueError):
    """What was typed is no value of its field; the message says what is one."""


def read(form: Field, schema: Schema) -> Any:
    """The JSON object that a form makes.

    What is wrong is noted at the fields, as `error`; at the form itself what belongs to no field.

    Args:
        form: The form, with what was typed.
        schema: The JSON schema of the object.
    """
    answer = _value(form)
    if any(each.error for each in form.each()):
        return answer
    try:
        problems = validate(answer, schema, preprocess=False)
    except (CircularSchemaRefError, UnusableSchema) as error:
        form.error = f"Its schema can't be used: {error}"
        return answer
    for problem in problems:
        _note(form, problem)
    return answer


def made(form: Field, model: type[M]) -> M | None:
    """The value of a model that a form makes; None when something is wrong, which is noted."""
    answer = read(form, model.model_json_schema())
    if any(each.error for each in form.each()):
        return None
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        for each in error.errors():
            _note_at(form, each["loc"], each["msg"])
        return None


def _note(form: Field, problem: Any) -> None:
    """Note a problem at the innermost field around it."""
    problem = _inner(problem)
    path, message = tuple(problem.absolute_path), f"{problem.message}"
    if problem.validator == "required":
        missing = re.match(r"'(.*)' is a required property", message)
        path, message = (*path, missing[1] if missing else ""), _MISSING
    _note_at(form, path, message)


def _inner(problem: Any) -> Any:
    """What is wrong with a value that may also be null, and is not."""
    fitting = [each for each in problem.context or () if each.validator_value != "null"]
    is_choice = problem.validator in ("anyOf", "oneOf")
    return _inner(fitting[0]) if is_choice and len(fitting) == 1 else problem


def _note_at(form: Field, path: tuple[int | str, ...], message: str) -> None:
    """Note what is wrong at the innermost field around it."""
    around = [each for each in form.each() if path[: len(each.path)] == each.path]
    found = max(around, key=lambda each: len(each.path))
    found.error = found.error or f"{message[:1].upper()}{message[1:]}"


def _value(field: Field) -> Any:
    """The value of a field; `_NOTHING` when the answer leaves it out."""
    match field.kind:
        case FieldKind.OBJECT:
            return _object(field)
        case FieldKind.ROWS:
            rows = [row for row in field.fields if _is_filled(row)]
            _renumber(field, rows)
            return [_value(row) for row in rows] if rows or field.required else _NOTHING
        case FieldKind.FIXED:
            return field.schema["const"]
    try:
        return (
            _list(field) if field.kind in (FieldKind.LINES, FieldKind.CHOICES) else _single(field)
        )
    except _Unfit as unfit:
        field.error = f"{unfit}"
        return _NOTHING


def _object(field: Field) -> Any:
    if field.path and not field.required and not _is_filled(field):
        return _NOTHING
    if field.path and field.nullable and not _is_filled(field):
        return None
    values = ((part.path[-1], _value(part)) for part in field.fields)
    return {key: value for key, value in values if value is not _NOTHING}


def _list(field: Field) -> Any:
    lines = field.raw if field.kind is FieldKind.CHOICES else field.value.splitlines()
    kept = [line for line in lines if line.strip()]
    if not kept and not (field.required or field.has_default):
        return _NOTHING
    values = []
    for number, line in enumerate(kept, 1):
        try:
            values.append(_parsed(field.item, line))
        except _Unfit as unfit:
            raise _Unfit(f"Line {number}: {unfit}") from unfit
    return values


def _single(field: Field) -> Any:
    raw = field.value
    if raw.strip():
        return _parsed(field, raw)
    if field.kind is FieldKind.TEXT and field.has_default and field.schema["default"] is not None:
        return _NOTHING if field.schema["default"] == "" else raw
    if not field.required:
        return _NOTHING
    if field.nullable:
        return None
    raise _Unfit(_MISSING)


def _parsed(field: Field, raw: str) -> Any:
    """What was typed as the value that it stands for.

    Raises:
        _Unfit: It stands for none.
    """
    text = raw.strip()
    match field.kind:
        case FieldKind.WHOLE:
            if not re.fullmatch(r"[-+]?[0-9]{1,300}", text):
                raise _Unfit("Give a whole number.")
            return int(text)
        case FieldKind.NUMBER:
            if not re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,2})?", text):
                raise _Unfit("Give a number.")
            return float(text)
        case FieldKind.DATE:
            return _time(lambda: date.fromisoformat(text), "Give a date, as in 2026-11-24.")
        case FieldKind.TIME:
            return _time(lambda: time.fromisoformat(text), "Give a time, as in 18:30.")
        case FieldKind.MOMENT:
            example = "Give a date and a time, as in 2026-11-24T18:30."
            moment = _time(lambda: datetime.fromisoformat(text), example)
            has_zone = datetime.fromisoformat(text).tzinfo is not None
            return moment if has_zone else f"{moment}Z"
        case FieldKind.JSON | FieldKind.YES_NO | FieldKind.CHOICE:
            return _json(raw)
        case _:
            return raw.replace("\r\n", "\n")


def _json(text: str) -> Any:
    """The value of a text in JSON.

    Raises:
        _Unfit: It is none; the message has the line and column, from 1.
    """

    def refuse(word: str) -> Any:
        raise _Unfit(f"This is no JSON: {word} is not a number there.")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _Unfit(f"This is no JSON, at {where}: {error.msg}.") from error
    except RecursionError as error:
        raise _Unfit("It is nested too deep.") from error
    except _Unfit:
        raise
    except ValueError as error:
        raise _Unfit("A number in it has too many digits.") from error


def _time(read: Any, example: str) -> str:
    try:
        return str(read().isoformat())
    except ValueError as error:
        raise _Unfit(example) from error


def _is_filled(field: Field) -> bool:
    """Whether anything was typed or chosen in a field, other than what was there."""
    if field.fields:
        return any(_is_filled(part) for part in field.fields)
    if field.kind is FieldKind.FIXED:
        return False
    given = field.schema.get("default")
    unchanged = [] if given is None else shown(field, given)
    return any(each.strip() for each in field.raw) and field.raw != unchanged


def _renumber(around: Field, rows: list[Field]) -> None:
    """Give the rows that are filled the places that they have in the list."""
    for place, row in enumerate(rows):
        for each in row.each():
            each.path = (*around.path, place, *each.path[len(around.path) + 1 :])
    for row in around.fields:
        if row not in rows:
            for each in row.each():
                each.path = (*around.path, -1, *each.path[len(around.path) + 1 :])
