"""Where a work pool runs the service: with which image, and how its port is reached from outside.

Both are read from the job that the pool's base job template renders, so a template of your own is
understood as well.
"""

import asyncio
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prefect.client.schemas.objects import WorkPool
from prefect.utilities.schema_tools import ValidationError, validate
from prefect.workers.base import BaseJobConfiguration
from pydantic import ConfigDict

from prefect_executions.addresses import is_loopback
from prefect_executions.prefect.errors import prefect_errors

_EVERYWHERE = "0.0.0.0"
_LOOPBACK = "127.0.0.1"


class Job(BaseJobConfiguration):
    """The job of a work pool of any type, rendered as Prefect's workers render it."""

    model_config = ConfigDict(extra="allow")

    env: Any = None  # a list in some templates for Kubernetes


@dataclass(frozen=True)
class Placement:
    """How a work pool runs the service.

    Args:
        job_variables: The job variables of the deployment.
        host: The address that a run listens on.
        reached: How others reach its port; None where it is a port of the worker's machine.
    """

    job_variables: dict[str, Any]
    host: str
    reached: str | None


@dataclass(frozen=True)
class _Container:
    """The container of a job.

    Args:
        image: Its image; None when the template names none.
        reached: How others reach its port; None when it has the network of its machine.
        unreached: Why nobody reaches its port from outside; empty when others do.
        ways: Job variables by which others would reach it.
    """

    image: str | None
    reached: str | None = None
    unreached: str = ""
    ways: tuple[str, ...] = ()


def place(
    pool: WorkPool, *, image: str | None, given: Iterable[str], host: str | None, port: int
) -> Placement:
    """Decide how a work pool runs the service.

    Args:
        pool: The work pool.
        image: The image of the containers.
        given: Job variables, each as `NAME=VALUE`.
        host: The address to listen on; by default loopback, or all addresses in a container.
        port: The port.

    Raises:
        ValueError: The service can't run there, or its port can't be reached from outside; the
            message says what is missing.
        PrefectUnavailable: Prefect does not answer.
    """
    variables = _parsed(given, pool)
    if image is not None:
        if "image" in variables:
            raise ValueError("image: it is a job variable, too; give one of them.")
        if "task_definition_arn" in variables:
            raise ValueError("image: task_definition_arn names one, too; give one of them.")
        if "image" not in _known(pool):
            raise ValueError(
                f"image: the base job template of {_named(pool)} has no variable for it."
            )
        variables["image"] = image
    _check(variables, pool)
    with prefect_errors():
        job: Any = asyncio.run(Job.from_template_and_values(pool.base_job_template, variables))
    container = _container(pool, job.model_dump(), port)
    if container is None:
        return Placement(variables, host or _LOOPBACK, None)
    lacking = _lacking(pool, container, port, is_named="image" in variables)
    has_own_network = container.reached is not None
    if host is not None and is_loopback(host) and has_own_network:
        lacking.append(
            f"host: {host!r} is reached from inside its container only. Leave it out, or give "
            f"{_EVERYWHERE} (:: in a network of IPv6)."
        )
    if lacking:
        raise ValueError("\n".join(lacking))
    return Placement(
        variables, host or (_EVERYWHERE if has_own_network else _LOOPBACK), container.reached
    )


def _lacking(pool: WorkPool, container: _Container, port: int, *, is_named: bool) -> list[str]:
    """What is missing for the service to run in a container, and to be reached there."""
    lacking = []
    if not is_named and _lacks_us(container.image):
        lacking.append(
            f"image: {_named(pool)} runs {container.image or 'an image of Prefect'}, which lacks "
            "this package. Give --image with one that has prefect-executions installed."
        )
    if container.unreached:
        ways = [way for way in container.ways if way.partition("=")[0] in _known(pool)]
        offered = " or ".join(f"--job-variable '{way}'" for way in ways)
        lacking.append(
            f"port: {port} in a container of {_named(pool)} is not reached from outside: "
            f"{container.unreached}. Give {offered or 'it a base job template that changes that'}."
        )
    return lacking


def _named(pool: WorkPool) -> str:
    return f"the work pool {pool.name!r} ({pool.type})"


def _known(pool: WorkPool) -> dict[str, Any]:
    """The job variables of a pool, with the schema of each."""
    known: dict[str, Any] = pool.base_job_template.get("variables", {}).get("properties", {})
    return known


def _container(pool: WorkPool, job: dict[str, Any], port: int) -> _Container | None:
    """The container of a job, or None when the pool starts processes."""
    match pool.type.partition(":")[0]:  # as in `ecs:push`
        case "docker":
            return _docker(job, port)
        case "kubernetes":
            return _kubernetes(job)
        case "ecs":
            return _ecs(job, port)
        case "cloud-run" | "cloud-run-v2" | "vertex-ai":
            raise ValueError(
                f"pool: a job of {_named(pool)} takes no requests. Run `prefect-executions serve "
                f"--host {_EVERYWHERE}` where the platform runs services."
            )
    if "image" not in _known(pool):
        return None
    return _Container(job.get("image"), "Whether others reach it is up to the work pool.")


def _docker(job: dict[str, Any], port: int) -> _Container:
    image, mode, networks = job.get("image"), job.get("network_mode"), job.get("networks")
    ports = (job.get("container_create_kwargs") or {}).get("ports") or {}
    published = {f"{inner}".removesuffix("/tcp"): outer for inner, outer in ports.items()}
    if mode == "host":
        return _Container(image)
    if f"{port}" in published:
        return _Container(image, f"Docker publishes its port: {published[f'{port}']}.")
    if networks or mode not in (None, "default", "bridge", "none"):
        names = ", ".join(networks or [mode])
        return _Container(image, f"Containers of its network ({names}) reach it by its name.")
    return _Container(
        image,
        unreached="Docker does not publish it",
        ways=(
            'networks=["NETWORK"]',
            "network_mode=host",
            f'container_create_kwargs={{"ports": {{"{port}/tcp": {port}}}}}',
        ),
    )


def _kubernetes(job: dict[str, Any]) -> _Container:
    pod = job["job_manifest"]["spec"]["template"]["spec"]
    return _Container(
        pod["containers"][0].get("image"),
        "Put a Service in front of it, with the selector prefect.io/flow-name: executions-service.",
    )


def _ecs(job: dict[str, Any], port: int) -> _Container:
    task, request = job.get("task_definition") or {}, job.get("task_run_request") or {}
    if arn := request.get("taskDefinition"):  # only AWS knows what it says
        return _Container(f"that of {arn}", "It is reached as its task definition says.")
    containers = task.get("containerDefinitions") or [{}]
    image, mode = containers[0].get("image"), task.get("networkMode")
    mapped = [it.get("containerPort") for each in containers for it in each.get("portMappings", [])]
    if f"{request.get('launchType')}".startswith("FARGATE") or mode in ("awsvpc", "host"):
        return _Container(image, "Let its security group admit others to its task's address.")
    if port in mapped and mode != "none":
        return _Container(image, "It is mapped to a port of its machine.")
    return _Container(
        image,
        unreached="on EC2 nothing maps it",
        ways=("launch_type=FARGATE", "task_definition_arn=ARN"),
    )


def _lacks_us(image: str | None) -> bool:
    """Whether an image is Prefect's own, which jobs have where nobody names one."""
    return image is None or re.search(r"(^|/)prefecthq/prefect(:[^/]*)?$", image) is not None


def _parsed(given: Iterable[str], pool: WorkPool) -> dict[str, Any]:
    """Read job variables: `NAME=VALUE`, or `NAME.KEY=VALUE` for one entry of an object."""
    known = _known(pool)
    variables: dict[str, Any] = {}
    for each in given:
        path, equals, text = each.partition("=")
        name, dot, key = path.partition(".")
        if not (name and equals) or (dot and not key):
            raise ValueError(f"job-variable: {each!r} is not NAME=VALUE.")
        if name not in known:
            has = ", ".join(sorted(known)) or "none"
            raise ValueError(f"job-variable: {_named(pool)} has no {name!r}; it has {has}.")
        if not dot:
            variables[name] = _value(text, known[name])
            continue
        entries = variables.setdefault(name, {})
        if not isinstance(entries, dict):
            raise ValueError(f"job-variable: {name!r} is given whole and by its keys, too.")
        entries[key] = _value(text, known[name].get("additionalProperties"))
    return variables


def _value(text: str, schema: Any) -> Any:
    """A value from a command line: text where the schema allows it, and JSON otherwise."""
    choices = [schema, *schema.get("anyOf", [])] if isinstance(schema, dict) else []
    if "string" in [choice.get("type") for choice in choices]:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text  # which the schema refuses, or allows


def _check(variables: dict[str, Any], pool: WorkPool) -> None:
    """Compare job variables with their schema; Prefect does so for new deployments only."""
    schema = pool.base_job_template.get("variables", {})
    plain = {name: value for name, value in variables.items() if not _refers(value)}
    try:
        validate(plain, schema, raise_on_error=True, preprocess=False, ignore_required=True)
    except ValidationError as error:
        raise ValueError(f"job-variable: {error}") from error


def _refers(value: Any) -> bool:
    """Whether Prefect replaces a value by a block or a variable."""
    return (isinstance(value, dict) and "$ref" in value) or "{{" in f"{value}"
