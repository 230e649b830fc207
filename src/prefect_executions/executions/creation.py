"""Creating executions: from a first state, or from a checkpoint of another one."""

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from prefect.client.schemas.objects import FlowRun

from prefect_executions import serialization
from prefect_executions.config import Effects, ExecutionConfig
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
from prefect_executions.executions.landing import land
from prefect_executions.executions.plans import EMPTY, Changes, Plan, digest, require_kept
from prefect_executions.executions.views import execution_of
from prefect_executions.ids import checkpoint_seq, execution_id
from prefect_executions.log.log import ExecutionLog
from prefect_executions.log.reader import Head, History
from prefect_executions.models import Execution
from prefect_executions.prefect.states import is_created, status_of
from prefect_executions.prefect.tags import DELETING, OUTSIDE, is_imported

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Prepared:
    """An execution whose log is written, and whose run no worker takes yet."""

    run: FlowRun
    log: ExecutionLog
    head: Head
    is_new: bool


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
        require_kept(parameters or {})
        request = digest(meta, serialization.load(data), deployment, parameters or {})
        plan = Plan(meta, data, deployment, parameters or {}, request)
        return self.create_all([(plan, key)])[0]

    def fork(
        self, execution_id: str, *, key: str | None = None, **changes: Any
    ) -> tuple[Execution, bool]:
        """One fork: see `forks`. Returns it, and whether it was created by this call."""
        return self.forks(execution_id, Changes(**changes), key=key)[0]

    def forks(
        self, execution_id: str, changes: Changes, *, count: int = 1, key: str | None = None
    ) -> list[tuple[Execution, bool]]:
        """Create executions that continue from a checkpoint of another one.

        They have the state of the checkpoint and what steps had recorded by then, so these steps do
        not run again; and the parameters and config of the other one, but for what is changed.

        Args:
            execution_id: The other one.
            changes: In what they differ from it.
            count: How many, all alike. Either all are created, or none; only where this process
                dies meanwhile there may be fewer, and a repeat with the same key makes the others.
            key: The key of the request: a repeat with the same key creates nothing.

        Returns:
            The executions, each with whether it was created by this call.

        Raises:
            StateError: the state is none that can be kept, or the patch does not fit.
            CheckpointNotFound: there is no such checkpoint; nothing was created.
            DeploymentNotFound: there is no such deployment, or that of the other one is gone.
            UnsuitableDeployment: its flow is not known as an execution; nothing was created.
            ParametersError: its flow does not take the parameters.
            ExecutionConflict: the other one never had a deployment, and none is given; or an
                external agent runs it, so that no deployment can.
            IdempotencyConflict: the key was used for another request.
            DeploymentForbidden: the caller may not start this deployment, or nobody may.
        """
        changes.require_possible()
        run = self.executions.run(execution_id)
        is_external = OUTSIDE in run.tags
        _require_forkable(run, execution_id, changes)
        log = self.executions.log(execution_id)
        head = newest = log.living_head()
        if changes.checkpoint_id is not None:
            head = log.at_checkpoint(checkpoint_seq(execution_id, changes.checkpoint_id))
        plan = Plan(
            changes.meta_of(execution_id, head, ""),
            changes.state_of(head),
            None if is_external else changes.deployment or str(run.deployment_id),
            {} if is_external else {**run.parameters, **(changes.parameters or {})},
            changes.digest(execution_id),
            changes.records_of(log, head, newest),
        )
        if count == 1:
            return self.create_all([(plan, key)])
        return self.create_all(
            [
                (
                    replace(plan, meta=changes.meta_of(execution_id, head, f" {number}")),
                    None if key is None else f"{key}/{number} of {count}",
                )
                for number in range(1, count + 1)
            ]
        )

    def finish(self, run: FlowRun) -> None:
        """Finish the creation of a run that was interrupted, or remove the run."""
        log = self.executions.log(execution_id(run.id))
        try:
            head = log.living_head()
        except ExecutionNotFound:
            self._undo(run)
        else:
            if is_imported(run):
                land(self.executions, run, head)
            elif OUTSIDE in run.tags:
                self._begin(log, head, run)
            else:
                self.executions.flow_runs.schedule(run)

    def create_all(self, plans: list[tuple[Plan, str | None]]) -> list[tuple[Execution, bool]]:
        """Create all of these, each with the key of its request, or none of them.

        Returns:
            The executions, each with whether it was created by this call.

        Raises:
            DeploymentNotFound, UnsuitableDeployment, ParametersError, IdempotencyConflict,
            AgentForbidden, DeploymentForbidden: see `create`.
        """
        made: list[_Prepared] = []
        try:
            for plan, key in plans:
                made.append(self._prepared(plan, key))
            return [self._released(each) for each in made]
        except Exception as error:
            for each, (_, key) in zip(made, plans, strict=False):
                self._undo_unless_repeated(each.run, key, error)
            raise

    def _prepared(self, plan: Plan, key: str | None) -> _Prepared:
        """Create a run that no worker takes, and its log."""
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
        except Exception as error:
            self._undo_unless_repeated(run, key, error)
            raise
        return _Prepared(run, log, head, is_new)

    def _released(self, made: _Prepared) -> tuple[Execution, bool]:
        """Let a worker or an agent begin."""
        flow_runs, run, head = self.executions.flow_runs, made.run, made.head
        if OUTSIDE not in run.tags:
            run = flow_runs.schedule(run)
        else:
            run = flow_runs.read(run.id)
            if not is_created(run):
                head, run = self._begin(made.log, head, run)
        history = History(made.log, head, {0: head.created}, [])
        if not made.is_new:
            run, history = flow_runs.read(run.id), made.log.read(checkpoints=100)
        now = self.executions.clock()
        return execution_of(run, history, now, states=False), made.is_new

    def _undo_unless_repeated(self, run: FlowRun, key: str | None, error: Exception) -> None:
        """Remove what an error has left half-made.

        Another request with this key may be about to finish the creation, unless the run is gone: a
        supervisor then took it for abandoned.
        """
        if key is None or isinstance(error, ExecutionNotFound):
            self._undo(run)

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


def _entry_0(log: ExecutionLog, meta: dict[str, Any], plan: Plan) -> tuple[Head, bool]:
    """Create a log, unless the same request has; return its head, and whether it is new."""
    try:
        return log.create(meta, plan.state, records=plan.records), True
    except AlreadyExists:
        head = log.living_head()
        if (head.created.meta or {}).get("request") != meta.get("request"):
            raise IdempotencyConflict(log.execution_id) from None
        return head, False


def _listed(deployments: Collection[str]) -> str:
    return ", ".join(repr(name) for name in sorted(deployments)) or "none"


def _require_forkable(run: FlowRun, execution_id: str, changes: Changes) -> None:
    """Check that what runs an execution can run a fork of it.

    Raises:
        ExecutionConflict: It can't.
    """
    hint = None
    if OUTSIDE in run.tags:
        given = {
            "deployment": changes.deployment is not None,
            "parameters": changes.parameters is not None,
            "effects": changes.effects != Effects.RECORD,
        }
        if field := next((name for name, is_given in given.items() if is_given), None):
            hint = f"An agent outside Prefect runs it, and so its forks; leave out `{field}`."
    elif run.deployment_id is None and changes.deployment is None:
        hint = "It has no deployment that could run the fork; give one as `deployment`."
    if hint is not None:
        raise ExecutionConflict(execution_id, "fork", status_of(run), hint)
