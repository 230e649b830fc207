"""Creating executions: from a first state, or from a checkpoint of another one."""

import logging
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from prefect.client.schemas.objects import FlowRun

from prefect_executions import serialization
from prefect_executions.errors import (
    AgentForbidden,
    AlreadyExists,
    DeploymentForbidden,
    ExecutionConflict,
    ExecutionError,
    ExecutionNotFound,
    IdempotencyConflict,
    StateError,
)
from prefect_executions.executions.executions import Executions
from prefect_executions.executions.views import execution_of
from prefect_executions.ids import checkpoint_id, checkpoint_seq, execution_id
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head, History
from prefect_executions.models import NAME_LENGTH, Execution, ExecutionConfig
from prefect_executions.prefect.states import is_created, status_of
from prefect_executions.prefect.tags import (
    DELETING,
    OUTSIDE,
    RETENTION,
    agent_tag,
    fork_tag,
    task_type_tag,
)

logger = logging.getLogger(__name__)

EMPTY: Any = object()  # no state was given, so it is `{}`; None is a state
_FORK = " (fork)"
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # as JSON has it; not after a backslash


@dataclass(frozen=True)
class _Plan:
    """An execution to be created.

    Args:
        meta: What the log keeps about it.
        state: The first state.
        deployment: The deployment that runs it; None for an external agent.
        parameters: The parameters of the deployment's flow.
        request: A digest that equal requests share.
        records: What the steps of the execution that it is forked from have recorded.
    """

    meta: dict[str, Any]
    state: bytes
    deployment: str | None
    parameters: dict[str, Any]
    request: str
    records: Sequence[Record] = ()

    @property
    def tags(self) -> list[str]:
        agent_id, task_type = self.meta["agent_id"], self.meta["task_type"]
        tags = [agent_tag(agent_id)] if agent_id else []
        tags += [task_type_tag(task_type)] if task_type else []
        tags += [RETENTION] if ExecutionConfig(**self.meta["config"]).removes else []
        return tags + ([fork_tag(self.meta["fork"]["execution_id"])] if "fork" in self.meta else [])


@dataclass(frozen=True)
class Creation:
    """Creates executions.

    Args:
        executions: The executions that a new one is added to.
        allowed: The only deployments that may be started, as `flow/deployment`; None for all.
    """

    executions: Executions
    allowed: frozenset[str] | None = None

    def create(
        self,
        *,
        name: str,
        deployment: str | None = None,
        parameters: dict[str, Any] | None = None,
        description: str | None = None,
        agent_id: str | None = None,
        task_type: str | None = None,
        state: Any = EMPTY,
        from_checkpoint: str | None = None,
        config: ExecutionConfig | None = None,
        key: str | None = None,
    ) -> tuple[Execution, bool]:
        """Create an execution, and schedule it for a worker.

        The log is written before a worker can take the run, so no process begins without one.
        Without a deployment an external agent runs it, and its first attempt has begun.

        Args:
            name: Its name.
            deployment: The deployment that runs it, by name or id.
            parameters: The parameters of the deployment's flow.
            description: What it is for.
            agent_id: The agent that it belongs to.
            task_type: The kind of task.
            state: The first state; by default `{}`.
            from_checkpoint: The checkpoint to take the first state from: `exec_…/ckpt_…`.
            config: How it is run.
            key: The key of the request: a repeat with the same key creates nothing.

        Returns:
            The execution, and whether it was created by this call.

        Raises:
            StateError: part of the state or the parameters is not JSON; nothing was created.
            DeploymentNotFound, UnsuitableDeployment: there is none, or its flow is not known as an
                execution; nothing was created.
            ParametersError: its flow does not take these parameters; nothing was created.
            ExecutionNotFound, CheckpointNotFound: there is no such checkpoint to start from.
            IdempotencyConflict: the key was used for another request.
            AgentForbidden, DeploymentForbidden: the caller may not act for it, or start it.
        """
        if from_checkpoint is not None and state is not EMPTY:
            raise StateError("from_checkpoint", "has a state already; leave out one of the two.")
        meta = {
            "name": name,
            "description": description,
            "agent_id": agent_id,
            "task_type": task_type,
            "config": (config or ExecutionConfig()).model_dump(mode="json"),
        }
        data = serialization.dump({} if state is EMPTY else state)
        if from_checkpoint is not None:
            origin, _, checkpoint = from_checkpoint.partition("/")
            data = self.executions.at_checkpoint(origin, checkpoint).state
            meta["fork"] = {"execution_id": origin, "checkpoint_id": checkpoint}
        serialization.dump(meta, at="execution")
        _require_kept(parameters or {})
        request = _digest(meta, serialization.load(data), deployment, parameters or {})
        return self._create(_Plan(meta, data, deployment, parameters or {}, request), key)

    def fork(
        self,
        execution_id: str,
        *,
        checkpoint_id: str | None = None,
        name: str | None = None,
        deployment: str | None = None,
        key: str | None = None,
    ) -> tuple[Execution, bool]:
        """Create an execution that continues from a checkpoint of another one.

        It has the state of the checkpoint and what steps had recorded by then, so these steps do
        not run again. Its parameters and config are those of the other one.

        Args:
            execution_id: The other one.
            checkpoint_id: Its checkpoint; by default its newest state.
            name: The name of the new one; by default that of the other one, with "(fork)".
            deployment: The deployment that runs it, by name or id; by default that of the other
                one. Another one may be of newer code, or take the place of one that is gone.
            key: The key of the request: a repeat with the same key creates nothing.

        Returns:
            The execution, and whether it was created by this call.

        Raises:
            CheckpointNotFound: there is no such checkpoint; nothing was created.
            DeploymentNotFound: there is no such deployment, or that of the other one is gone.
            UnsuitableDeployment: its flow is not known as an execution; nothing was created.
            ParametersError: its flow does not take the parameters of the other one.
            ExecutionConflict: the other one never had a deployment, and none is given; or an
                external agent runs it, so that no deployment can.
            IdempotencyConflict: the key was used for another request.
            DeploymentForbidden: the caller may not start this deployment, or nobody may.
        """
        run = self.executions.run(execution_id)
        is_external = OUTSIDE in run.tags
        if is_external and deployment is not None:
            hint = "An agent outside Prefect runs it, and so its forks; leave out `deployment`."
            raise ExecutionConflict(execution_id, "fork", status_of(run), hint)
        if run.deployment_id is None and deployment is None:
            hint = "It has no deployment that could run the fork; give one as `deployment`."
            raise ExecutionConflict(execution_id, "fork", status_of(run), hint)
        log = self.executions.log(execution_id)
        head = log.living_head()
        if checkpoint_id is not None:
            head = log.at_checkpoint(checkpoint_seq(execution_id, checkpoint_id))
        created = dict(head.created.meta or {})
        origin = {"execution_id": execution_id, "checkpoint_id": _checkpoint_of(head)}
        kept = {key: created[key] for key in ("description", "agent_id", "task_type", "config")}
        meta = {"name": name or _fork_of(created["name"]), **kept, "fork": origin}
        plan = _Plan(
            meta,
            head.state,
            None if is_external else deployment or str(run.deployment_id),
            {} if is_external else run.parameters,
            _digest("fork", execution_id, checkpoint_id, name, deployment),
            _records(log, head),
        )
        return self._create(plan, key)

    def finish(self, run: FlowRun) -> None:
        """Finish the creation of a run that was interrupted, or remove the run."""
        log = self.executions.log(execution_id(run.id))
        try:
            head = log.living_head()
        except ExecutionNotFound:
            self._undo(run)
        else:
            if OUTSIDE in run.tags:
                self._begin(log, head, run)
            else:
                self.executions.flow_runs.schedule(run)

    def _create(self, plan: _Plan, key: str | None) -> tuple[Execution, bool]:
        executions, flow_runs = self.executions, self.executions.flow_runs
        agent_id, agents = plan.meta["agent_id"], executions.sight.agents
        if agents is not None and agent_id not in agents:
            raise AgentForbidden(agent_id)
        run = flow_runs.create(
            plan.deployment,
            name=plan.meta["name"],
            parameters=plan.parameters,
            tags=plan.tags,
            key=key,
            permit=self._permit,
        )
        log = executions.log(execution_id(run.id))
        request = {} if key is None else {"request": plan.request}
        try:
            if DELETING in run.tags:
                raise IdempotencyConflict(log.execution_id)
            head, is_new = _entry_0(log, {**plan.meta, **request}, plan)
            if plan.deployment is None:
                run = flow_runs.read(run.id)
                if not is_created(run):
                    head, run = self._begin(log, head, run)
            else:
                run = flow_runs.schedule(run)
        except Exception as error:
            # Another request with this key may be about to finish the creation, unless the run is
            # gone: a supervisor then took it for abandoned.
            if key is None or isinstance(error, ExecutionNotFound):
                self._undo(run)
            raise
        history = History(log, head, {0: head.created}, [])
        if not is_new:
            run, history = flow_runs.read(run.id), log.read(checkpoints=100)
        return execution_of(run, history, executions.clock(), states=False), is_new

    def _permit(self, deployment: str) -> None:
        """Check that the caller may start a deployment, and so its executions.

        Raises:
            DeploymentForbidden: The caller may not, or nobody may.
        """
        own = self.executions.sight.deployments
        if own is not None and deployment not in own:
            way_out = f"This key may start {_listed(own)}: give one of them, or take another key."
            raise DeploymentForbidden(deployment, way_out)
        if self.allowed is not None and deployment not in self.allowed:
            way_out = (
                f"The service may start {_listed(self.allowed)}: give one of them, or have its "
                "setting PREFECT_INTEGRATIONS_EXECUTIONS_ALLOWED_DEPLOYMENTS changed."
            )
            raise DeploymentForbidden(deployment, way_out)

    def _begin(self, log: ExecutionLog, head: Head, run: FlowRun) -> tuple[Head, FlowRun]:
        """Begin the first attempt of an external agent, unless it has begun.

        No heartbeat is sent: that is for the agent to do, and not known to have come from one.
        """
        head = head if head.entry.attempt else log.attempt()
        return head, self.executions.flow_runs.start(run)

    def _undo(self, run: FlowRun) -> None:
        """Remove a half-made execution; if that fails, only log why."""
        try:
            with suppress(ExecutionNotFound):  # the run is gone, its log may not be
                self.executions.flow_runs.mark_deleting(run)
            self.executions.seen_by(None).delete(execution_id(run.id), patience=0)
        except ExecutionError as error:
            logger.warning("%s is left half-made: %s", execution_id(run.id), error)


def _entry_0(log: ExecutionLog, meta: dict[str, Any], plan: _Plan) -> tuple[Head, bool]:
    """Create a log, unless the same request has; return its head, and whether it is new."""
    try:
        return log.create(meta, plan.state, records=plan.records), True
    except AlreadyExists:
        head = log.living_head()
        if (head.created.meta or {}).get("request") != meta.get("request"):
            raise IdempotencyConflict(log.execution_id) from None
        return head, False


def _digest(*parts: Any) -> str:
    """A digest that equal JSON shares, however it was written."""
    return serialization.digest(
        *(orjson.dumps(part, option=orjson.OPT_SORT_KEYS) for part in parts)
    )


def _checkpoint_of(head: Head) -> str:
    """The checkpoint that an execution would continue from."""
    return checkpoint_id(head.entry.continues_from)


def _listed(deployments: Collection[str]) -> str:
    return ", ".join(repr(name) for name in sorted(deployments)) or "none"


def _fork_of(name: str) -> str:
    return name[: NAME_LENGTH - len(_FORK)] + _FORK


def _records(log: ExecutionLog, head: Head) -> list[Record]:
    """The records of steps, as the log of a fork can keep them.

    Steps that a roll-back has left to be undone are undone by the original execution. Executions
    that it has begun, and that have not returned, go on with it; the fork begins others.
    """
    kept = [
        record
        for record in head.records().values()
        if record.outcome not in (Outcome.UNDO, Outcome.UNDONE)
        and not (record.outcome is Outcome.WAITING and record.child is not None)
    ]
    return [log.with_result(record) for record in kept]


def _require_kept(parameters: dict[str, Any]) -> None:
    """Check that Prefect can keep parameters, whatever its database is.

    Raises:
        StateError: They are not JSON, or a text has a NUL, which PostgreSQL can't store.
    """
    if _NUL.search(serialization.dump(parameters, at="parameters")):
        problem = (
            "have a NUL (\\u0000) in a text. Prefect can't store it in PostgreSQL; leave it out."
        )
        raise StateError("parameters", problem)
