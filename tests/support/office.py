"""The REST service in this process, with executions and keys of several kinds, for agents."""

from uuid import uuid4

from fastapi import FastAPI
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.blocks.key import Permission, create_key, revoke_key
from prefect_executions.executions.agents import ExternalAgents
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import flow_run_id
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.prefect.pauses import Form, paused, question_key, save_form
from prefect_executions.prefect.states import state_of
from prefect_executions.service import create_app
from prefect_executions.service.keyring import Keyring
from rest import KEY, Away


class Office:
    """A service, and its executions, which agents outside Prefect run."""

    def __init__(self, prefect: SyncPrefectClient) -> None:
        self.prefect = prefect
        self.objects = Away()
        self.executions = Executions(
            self.objects, FlowRuns(prefect, store=uuid4().hex, wait=lambda _: None)
        )
        self.keyring = Keyring(prefect, api_key=KEY)
        self.app: FastAPI = create_app(self.executions, self.keyring)
        self.names: list[str] = []

    def key(self, *permissions: Permission, **narrowed: list[str]) -> str:
        name = f"key-{uuid4().hex}"
        self.names.append(name)
        return create_key(self.prefect, name, permissions=permissions, **narrowed)

    def create(self, state: object = None, agent_id: str | None = None) -> str:
        """An execution that an agent outside Prefect runs."""
        made, _ = Creation(self.executions).create(name="a task", state=state, agent_id=agent_id)
        return made.id

    def save(self, id_: str, *states: object) -> list[str]:
        """Save checkpoints, as the agent; their ids."""
        saved = [
            self.executions.checkpoint(id_, state=state, attempt=1, by="me") for state in states
        ]
        return [each.checkpoint.id for each in saved]

    def complete(self, id_: str, result: object) -> None:
        ExternalAgents(self.executions).complete(id_, result=result, attempt=1)

    def fail(self, id_: str, error: str) -> None:
        ExternalAgents(self.executions).fail(id_, error=error, attempt=1)

    def ask(self, id_: str, schema: dict[str, object], prompt: str) -> str:
        """Pause an execution as a flow that asks; the key of the question."""
        key, run = question_key(), flow_run_id(id_)
        self.prefect.set_flow_run_state(run, paused(key, prompt), force=True)
        state = state_of(self.prefect.read_flow_run(run))
        save_form(self.prefect, run, state, Form(schema, prompt))
        return key

    def close(self) -> None:
        for name in self.names:
            revoke_key(self.prefect, name)
        self.keyring.close()
