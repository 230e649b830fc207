"""Deployments whose flows are executions: how they are known, and what they take.

Prefect keeps no word about the decorators of a deployment's flow. `@execution` leaves one where
Prefect describes the flow as it is deployed: in the schema of each parameter; where there is none,
at the end of the description. If that is replaced by another description, the deployment is known
by its tag, which its first run adds, or a person.
"""

import inspect
from collections.abc import Callable
from http import HTTPStatus
from itertools import count
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from prefect_executions.errors import DeploymentNotFound, ParametersError, UnsuitableDeployment
from prefect_executions.prefect.errors import passing, prefect_errors
from prefect_executions.prefect.tags import EXECUTION, deployment_of, deployment_tag

OUTSIDE_DEPLOYMENT = "agent/outside-prefect"

_PAGE = 200  # deployments that Prefect lists in one request
_IN_SCHEMA = "x-prefect-execution"
_IN_DESCRIPTION = "A durable execution."


class _Mark:
    """Part of the type of a parameter; adds a key to its JSON schema."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Any:
        return {**handler(core), _IN_SCHEMA: True}

    def __repr__(self) -> str:
        return "execution"


def mark(call: Callable[..., Any]) -> None:
    """Mark the function of a flow as an execution, for the deployments that are made of it."""
    if not inspect.signature(call).parameters:
        call.__doc__ = "\n\n".join(filter(None, [inspect.getdoc(call), _IN_DESCRIPTION]))
        return
    try:
        signature = inspect.signature(call, eval_str=True)
    except NameError:  # an annotation names what is defined later
        return
    any_or = {inspect.Parameter.empty: Any}
    marked = [
        parameter.replace(
            annotation=Annotated[any_or.get(parameter.annotation, parameter.annotation), _Mark()]
        )
        for parameter in signature.parameters.values()
    ]
    call.__signature__ = signature.replace(parameters=marked)  # type: ignore[attr-defined]


def find_deployment(client: SyncPrefectClient, deployment: str) -> DeploymentResponse:
    """Read a deployment, which is given by its id or its name.

    Raises:
        DeploymentNotFound: There is no such deployment.
        PrefectUnavailable: Prefect does not answer.
    """
    if "\0" in deployment:  # PostgreSQL can't look for it
        raise DeploymentNotFound(deployment)
    with prefect_errors():
        try:
            if is_id(deployment):
                return client.read_deployment(UUID(deployment))
            return client.read_deployment_by_name(quote(deployment))  # it becomes part of a URL
        except (ObjectNotFound, ValueError, httpx.InvalidURL):
            raise DeploymentNotFound(deployment) from None


def full_name(client: SyncPrefectClient, deployment: DeploymentResponse) -> str:
    """The full name of a deployment, `flow/deployment`, which never changes.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    with prefect_errors():
        return f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"


def tags_of_deployment(client: SyncPrefectClient, run: FlowRun) -> list[str]:
    """The tag that says of which deployment a run is, unless it has that, or is of none.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    if run.deployment_id is None or deployment_of(run) is not None:
        return []
    with prefect_errors(), passing(HTTPStatus.NOT_FOUND):  # it may have been deleted
        return [deployment_tag(full_name(client, client.read_deployment(run.deployment_id)))]
    return []


def is_id(deployment: str) -> bool:
    """Whether a deployment is given by its id, not by its name."""
    try:
        UUID(deployment)
    except ValueError:
        return False
    return True


def entrypoint_of(client: SyncPrefectClient, run: FlowRun) -> str | None:
    """Where the code of a run's deployment is, as `file.py:flow`; None if that is not known.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    if run.deployment_id is None:
        return None
    with prefect_errors(), passing(HTTPStatus.NOT_FOUND):
        return client.read_deployment(run.deployment_id).entrypoint
    return None


def is_deployed(client: SyncPrefectClient, deployment_id: UUID) -> bool:
    """Whether there is a deployment with this id.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    with prefect_errors(), passing(HTTPStatus.NOT_FOUND):
        client.read_deployment(deployment_id)
        return True
    return False


def is_execution(deployment: DeploymentResponse) -> bool:
    """Whether the flow of a deployment is known to be an execution."""
    schema = deployment.parameter_openapi_schema or {}
    return (
        EXECUTION in deployment.tags
        or _IN_DESCRIPTION in (deployment.description or "")
        or any(_IN_SCHEMA in taken for taken in schema.get("properties", {}).values())
    )


def list_execution_deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """The deployments whose flows are known to be executions that Prefect runs.

    That for agents outside Prefect is none of them. All deployments are read, 200 in a request.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    found: list[DeploymentResponse] = []
    outside = OUTSIDE_DEPLOYMENT.split("/")[1]
    for offset in count(step=_PAGE):
        with prefect_errors():
            page = client.read_deployments(limit=_PAGE, offset=offset)
        found += (
            each
            for each in page
            if is_execution(each) and not (each.name == outside and each.entrypoint is None)
        )
        if len(page) < _PAGE:
            break
    return found


def require_execution(deployment: DeploymentResponse) -> None:
    """Check that the flow of a deployment is known to be an execution.

    Raises:
        UnsuitableDeployment: It is not.
    """
    if not is_execution(deployment):
        code = f", {deployment.entrypoint}," if deployment.entrypoint else ""
        raise UnsuitableDeployment(
            f"The flow of deployment {deployment.name!r}{code} is not known as an execution. Put "
            "`@execution` below its `@flow` and deploy it again, by `prefect deploy`. If it has "
            f"`@execution`, run it once in Prefect, or add the tag {EXECUTION!r} to the deployment."
        )


def require_parameters(deployment: DeploymentResponse, parameters: dict[str, Any]) -> None:
    """Check that the flow of a deployment has these parameters, and needs no others.

    Prefect itself checks their types, and lets unknown ones through.

    Raises:
        ParametersError: It does not have one of them, or needs another.
    """
    schema = deployment.parameter_openapi_schema or {}
    if "title" not in schema:  # it was deployed without a look at the flow
        return
    for name in parameters:
        if name not in schema["properties"]:
            takes = ", ".join(repr(known) for known in schema["properties"]) or "none"
            raise ParametersError(f"has no parameter {name!r}. The flow takes: {takes}.")
    for name in schema.get("required", []):
        if name not in parameters and name not in deployment.parameters:
            raise ParametersError(f"lacks {name!r}, which the flow needs.")


def tag_deployment(client: SyncPrefectClient, run: FlowRun) -> None:
    """Tag the deployment of a run, whose flow is an execution.

    A run that has the tag already has it from its deployment, was created over REST, where the
    deployment is known, or has begun before: no request is sent then.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    if run.deployment_id is None or EXECUTION in run.tags:
        return
    with prefect_errors(), passing(HTTPStatus.NOT_FOUND):  # it may have been deleted
        deployment = client.read_deployment(run.deployment_id)
        if EXECUTION not in deployment.tags:
            tags = [*deployment.tags, EXECUTION]
            client.update_deployment(run.deployment_id, DeploymentUpdate(tags=tags))


def ensure_outside_deployment(client: SyncPrefectClient) -> DeploymentResponse:
    """The deployment for agents outside Prefect; creates it where it is missing.

    It has nothing that a worker could run, and gives its runs the buttons in the Prefect UI.
    """
    flow_name, name = OUTSIDE_DEPLOYMENT.split("/")
    try:
        return client.read_deployment_by_name(OUTSIDE_DEPLOYMENT)
    except ObjectNotFound:
        made = client.create_deployment(
            client.create_flow_from_name(flow_name),
            name,
            description="Executions that agents outside Prefect run, and report on over REST.",
            tags=[EXECUTION],
        )
        return client.read_deployment(made)
