"""Every public type of Python, pydantic and Prefect has a form or is refused."""

import builtins
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import io
import ipaddress
import pathlib
import re
import threading
import types
import typing
import uuid
import warnings
import zoneinfo
from types import ModuleType

import prefect
import prefect.futures
import prefect.utilities.annotations
import pydantic
import pytest

from prefect_executions.steps import identity
from prefect_executions.steps.identity import REFUSED

# Classes whose instances have a form, but not by their class.
BY_NAME_OR_PARTS = {
    "types": {"GenericAlias", "UnionType"},
    "typing": {"NewType"},
}
# Classes whose instances are refused without a special reason.
UNKNOWN = {
    "builtins": {"classmethod", "object", "property", "staticmethod", "super"},
    "decimal": {"Context"},
    "enum": {"auto", "member", "nonmember", "property", "verify"},
    "functools": {"cached_property", "partialmethod", "singledispatchmethod"},
    "io": {"IncrementalNewlineDecoder"},
    "re": {"Match"},
    "threading": {"Barrier", "local"},
    "types": {
        *("CellType", "ClassMethodDescriptorType", "DynamicClassAttribute"),
        *("GetSetDescriptorType", "MemberDescriptorType", "MethodDescriptorType"),
        *("MethodWrapperType", "WrapperDescriptorType", "CapsuleType"),
    },
    "typing": {
        *("ForwardRef", "ParamSpec", "ParamSpecArgs", "ParamSpecKwargs", "TypeVar", "TypeVarTuple"),
        *("TypeAliasType", "NoDefault"),
    },
    "dataclasses": {"Field", "InitVar"},
    "prefect.utilities.annotations": {"NotSet"},
    "pydantic": {
        *("AfterValidator", "BeforeValidator", "PlainValidator", "WrapValidator", "SkipValidation"),
        *("ValidateAs", "InstanceOf", "WithJsonSchema", "PlainSerializer", "SerializeAsAny"),
        *("WrapSerializer", "AliasChoices", "AliasGenerator", "AliasPath", "UrlConstraints"),
        *("Strict", "StringConstraints", "AllowInfNan", "EncodedBytes", "EncodedStr", "Tag"),
        *("GetPydanticSchema", "Discriminator", "FailFast", "TypeAdapter"),
        *("GetCoreSchemaHandler", "GetJsonSchemaHandler", "ValidationInfo", "SerializationInfo"),
        *("FieldSerializationInfo", "ModelWrapValidatorHandler", "ValidatorFunctionWrapHandler"),
        "SerializerFunctionWrapHandler",
    },
}
# Classes that only have instances of subclasses.
ABSTRACT = {
    "pathlib": {"Path", "PurePath"},
    "typing": {
        *("Annotated", "Any", "Generic", "Protocol", "BinaryIO", "IO", "TextIO", "SupportsAbs"),
        *("SupportsBytes", "SupportsComplex", "SupportsFloat", "SupportsIndex", "SupportsInt"),
        *("SupportsRound", "Union"),
    },
    "pydantic": {
        *("BaseConfig", "Extra", "EmailStr", "IPvAnyAddress", "IPvAnyInterface", "IPvAnyNetwork"),
        *("ImportString", "Json", "PastDate", "FutureDate", "PastDatetime", "FutureDatetime"),
        *("AwareDatetime", "NaiveDatetime", "EncoderProtocol", "Base64Encoder"),
    },
}
CATALOGUE = [
    *(builtins, collections, dataclasses, datetime, decimal, enum, fractions, functools, io),
    *(ipaddress, pathlib, re, threading, types, typing, uuid, zoneinfo),
    *(prefect, prefect.futures, prefect.utilities.annotations, pydantic),
]


def _public_classes(module: ModuleType) -> dict[str, type]:
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are deprecated
        found = {name: getattr(module, name) for name in names}
    return {name: value for name, value in found.items() if isinstance(value, type)}


@pytest.mark.parametrize("module", CATALOGUE, ids=lambda module: str(module.__name__))
def test_of_each_type_it_is_decided_whether_it_has_a_form(module: ModuleType) -> None:
    refused = tuple(kind for kinds in REFUSED.values() for kind in kinds)
    decided = {
        name
        for name, kind in _public_classes(module).items()
        if identity.form_of(kind)[0] is not object or issubclass(kind, refused)
    }
    named = {
        name
        for table in (BY_NAME_OR_PARTS, UNKNOWN, ABSTRACT)
        for name in table.get(module.__name__, ())
    }

    assert decided & named == set()
    assert _public_classes(module).keys() - decided - named == set()
