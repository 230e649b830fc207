"""The command that makes a store, which is a block in Prefect itself."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from pydantic import ValidationError

from prefect_executions.cli.exits import REFUSED, USAGE, end
from prefect_executions.cli.output import Output
from prefect_executions.errors import StoreNotFound

if TYPE_CHECKING:
    from prefect_executions.stores.store import ExecutionStore

CREDENTIALS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")

app = App(name="store", help="Create the store that executions are kept in; asks Prefect itself.")


@Parameter(name="*")
@dataclass(frozen=True)
class StoreOptions:
    """The fields of an `ExecutionStore`, as options."""

    bucket: Annotated[str | None, Parameter(help="The S3 bucket; it must exist.")] = None
    directory: Annotated[
        str | None,
        Parameter(help="In place of a bucket, where all that uses it runs on one machine."),
    ] = None
    prefix: Annotated[str, Parameter(help="Put before every key.")] = "executions"
    region_name: Annotated[
        str | None, Parameter(name="--region", help="By default that of the AWS configuration.")
    ] = None
    endpoint_url: Annotated[
        str | None, Parameter(name="--endpoint", help="Of an S3-compatible server; by default AWS.")
    ] = None
    path_style: Annotated[
        bool, Parameter(negative="", help="Name the bucket in the path, as most servers want.")
    ] = False
    checksums: Annotated[
        Literal["when_supported", "when_required"] | None,
        Parameter(help="`when_required` for servers that refuse uploads with a checksum."),
    ] = None
    encryption: Annotated[
        Literal["AES256", "aws:kms"] | None, Parameter(help="By default what the bucket says.")
    ] = None
    kms_key_id: Annotated[str | None, Parameter(help="For aws:kms.")] = None
    aws_access_key_id: Annotated[
        str | None,
        Parameter(
            name="--access-key-id",
            help="A fixed key, which Prefect keeps. By default AWS's own chain is asked, where "
            "flows and the service run: environment, profile, role.",
        ),
    ] = None
    aws_secret_access_key: Annotated[
        str | None,
        Parameter(
            name="--secret-access-key",
            help="Its secret. Other users of this machine see it: better give "
            "--credentials-from-environment.",
        ),
    ] = None
    aws_session_token: Annotated[
        str | None, Parameter(name="--session-token", help="Of temporary credentials.")
    ] = None
    keep_checkpoints: Annotated[
        int | None, Parameter(help="How many of an execution's newest checkpoints stay.")
    ] = None
    keep_labelled: Annotated[
        bool, Parameter(negative="", help="Checkpoints with a label stay, too.")
    ] = False
    delete_after_seconds: Annotated[
        float | None, Parameter(help="After its end, when an execution is deleted.")
    ] = None


NOWHERE = StoreOptions()


@app.command
def create(
    *,
    which: StoreOptions = NOWHERE,
    name: Annotated[str, Parameter(help="Of the block.")] = "default",
    credentials_from_environment: Annotated[
        bool,
        Parameter(
            negative="",
            help="Keep AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of this "
            "environment in the block, where Prefect encrypts them.",
        ),
    ] = False,
    overwrite: Annotated[bool, Parameter(negative="", help="Even if there is one.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print JSON, for programs.")] = False,
) -> None:
    """Create the Execution Store: check its bucket or directory, and save the block."""
    from prefect_executions.prefect.errors import prefect_errors  # noqa: PLC0415
    from prefect_executions.stores.store import ExecutionStore  # noqa: PLC0415

    given: dict[str, Any] = {**vars(which), **(_around() if credentials_from_environment else {})}
    try:
        store = ExecutionStore(**given)
    except ValidationError as error:
        wrong = error.errors()[0]
        end(USAGE, ": ".join([*(option_of(f"{field}") for field in wrong["loc"]), wrong["msg"]]))
    if not overwrite and (there := saved_as(name)) is not None:
        end(
            REFUSED,
            f"There is an Execution Store {name!r} already, with the {there.place}. Give another "
            "--name, or --overwrite.",
        )
    with prefect_errors():
        store.save(name, overwrite=overwrite)
    output = Output(as_json=json)
    saved = {"name": name, "bucket": store.bucket, "prefix": store.prefix}
    output.show(
        {**saved, "directory": store.directory},
        f"execution-store/{name} is saved: the {store.place} keeps conditional writes.",
    )
    if name != "default":
        output.say(f"Use it by PREFECT_INTEGRATIONS_EXECUTIONS_STORE={name}.")


def saved_as(name: str) -> "ExecutionStore | None":
    """The store that is saved under a name."""
    from prefect_executions.stores.store import load_store  # noqa: PLC0415

    try:
        found = load_store(name)
    except StoreNotFound:
        return None
    return None if found.notice else found  # nobody has saved one with a notice


def option_of(field: str) -> str:
    """The option for a field of the block."""
    name = field.removeprefix("aws_").removesuffix("_name").removesuffix("_url")
    return f"--{name.replace('_', '-')}"


def _around() -> dict[str, str | None]:
    """The credentials in the environment; or end the command, if there are none."""
    found = {field: os.environ.get(field.upper()) for field in CREDENTIALS}
    for field in CREDENTIALS[:2]:
        if not found[field]:
            end(USAGE, f"--credentials-from-environment: {field.upper()} is not set.")
    return found
