"""The options and arguments that several commands have."""

import json
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from cyclopts import Parameter

from prefect_executions.cli.exits import USAGE, end
from prefect_executions.config import ExecutionConfig, Status

if TYPE_CHECKING:
    from prefect_executions.client.operations import Filter


@Parameter(name="*")
@dataclass(frozen=True)
class CommonOptions:
    """The options of every command of the client."""

    url: Annotated[
        str | None,
        Parameter(help="Of the service; by default $PREFECT_EXECUTIONS_URL, or a profile's."),
    ] = None
    profile: Annotated[
        str | None, Parameter(help="Of ~/.config/prefect-executions/config.toml.")
    ] = None
    json: Annotated[bool, Parameter(negative="", help="Print JSON, for programs.")] = False


NONE = CommonOptions()


def _help(field: str) -> Parameter:
    return Parameter(help=ExecutionConfig.model_fields[field].description)


@Parameter(name="*")
@dataclass(frozen=True)
class ConfigOptions:
    """The fields of `ExecutionConfig`, as options."""

    max_duration_seconds: Annotated[float | None, _help("max_duration_seconds")] = None
    checkpoint_interval_seconds: Annotated[float | None, _help("checkpoint_interval_seconds")] = (
        None
    )
    max_retries: Annotated[int | None, _help("max_retries")] = None
    retry_delay_seconds: Annotated[float | None, _help("retry_delay_seconds")] = None
    keep_checkpoints: Annotated[int | None, _help("keep_checkpoints")] = None
    keep_labelled: Annotated[bool | None, _help("keep_labelled")] = None
    delete_after_seconds: Annotated[float | None, _help("delete_after_seconds")] = None


UNSET = ConfigOptions()


@Parameter(name="*")
@dataclass(frozen=True)
class FilterOptions:
    """The fields of `ExecutionFilter`, as options."""

    status: Annotated[list[Status] | None, Parameter(negative="", help="One of these.")] = None
    agent_id: str | None = None
    task_type: str | None = None
    name: Annotated[str | None, Parameter(help="A part of it.")] = None
    forked_from: Annotated[str | None, Parameter(help="The execution, by its whole id.")] = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None

    @property
    def filter(self) -> "Filter":
        """The filter of the options that are given; a time without a zone is local."""
        given: Any = {name: value for name, value in vars(self).items() if value}
        times = {name: at.astimezone() for name, at in given.items() if isinstance(at, datetime)}
        filter_: Filter = given | times
        return filter_


ALL = FilterOptions()

Limit = Annotated[int, Parameter(help="How many at most; 0: all.")]
Repeatable = Annotated[
    str | None, Parameter(help="The same for a repetition of the command, which creates nothing.")
]
Id = Annotated[  # read by `short_ids.whole`
    str, Parameter(help="The execution: its id, or the first digits of one of the newest 1,000.")
]
StoreName = Annotated[
    str | None, Parameter(help="The Execution Store block; by default that of the settings.")
]
State = Annotated[  # read by `json_of`
    str | None,
    Parameter(help="JSON; or @FILE; or - for standard input.", allow_leading_hyphen=True),
]


def json_of(text: str, what: str) -> Any:
    """The value that a user gave as JSON, in a file or on standard input; or end the command.

    Args:
        text: What was given.
        what: The option that it was given with.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text()
        return json.loads(text, parse_constant=refuse)
    except (OSError, ValueError) as error:
        end(USAGE, f"{what}: {error}; give JSON, or @FILE, or - for standard input.")
