"""The values of the API: executions, their checkpoints, lists and answers."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from prefect_executions.config import Effects, ExecutionConfig, Name, Status, Time


class ExecutionFilter(BaseModel):
    """Which executions are meant: those that fit all that is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: list[Status] = Field([], max_length=5, description="One of these; none: any.")
    agent_id: Name | None = Field(None, description="The agent that it belongs to.")
    task_type: Name | None = Field(None, description="The kind of task.")
    name: Name | None = Field(None, description="A part of its name, in any case of letters.")
    forked_from: Name | None = Field(None, description="The execution that it was forked from.")
    created_after: Time | None = Field(
        None,
        description="Created at this time or later; of one that Prefect scheduled: due.",
    )
    created_before: Time | None = Field(None, description="Created at this time or before.")
    updated_after: Time | None = Field(
        None, description="Its last change of status was at this time or later."
    )
    updated_before: Time | None = Field(
        None, description="Its last change of status was at this time or before."
    )


class Order(StrEnum):
    """In which order executions are listed, by their creation."""

    NEWEST_FIRST = "desc"
    OLDEST_FIRST = "asc"


class Checkpoint(BaseModel):
    """A saved state of an execution."""

    id: str = Field(description="`ckpt_` and the number of its log entry.")
    label: str | None = Field(description="The label given when it was saved.")
    state: Any = Field(
        None, description="The state; null when states were not asked for, or it was left out."
    )
    state_left_out: bool = Field(
        False,
        description="Whether the state was left out, since the answer would have been too large; "
        "`GET …/checkpoints/{checkpoint_id}` has it.",
    )
    timestamp: datetime = Field(description="When it was saved.")
    attempt: int = Field(description="The attempt it was saved in, from 1; 0: before the first.")
    size: int = Field(description="Bytes of the state as JSON.")
    saved_by: str | None = Field(
        None,
        description="Who saved it by hand: the name of their API key; null when the execution's "
        "own process or agent did.",
    )
    reason: str | None = Field(
        None, description="Why it was saved by hand, or by an external agent, if that was said."
    )


class FlowRunFacts(BaseModel):
    """What Prefect knows of the flow run that an execution is."""

    flow_run_id: UUID = Field(description="The flow run that the execution is.")
    state_name: str = Field(description="Prefect's name of its state.")
    message: str | None = Field(
        description="What its state says: why it failed, or was paused; or what its caller is to "
        "do where no agent outside Prefect has taken it."
    )
    deployment: UUID | None = Field(description="The id of the deployment that runs it.")
    url: str | None = Field(description="Its page in the Prefect UI.")


class PrefectRun(FlowRunFacts):
    """What Prefect knows of an execution, and how often it has begun."""

    attempt: int = Field(description="How many processes have begun to run it.")
    runs_on: str | None = Field(
        description="What runs it now: the name of a worker and what that has started, `a process "
        "without a worker`, or `an agent outside Prefect`; `nobody yet` while it waits for one; "
        "null when it is paused or has ended."
    )


class ForkOrigin(BaseModel):
    """The checkpoint that a forked execution started from."""

    execution_id: str = Field(description="The execution that it was.")
    checkpoint_id: str = Field(description="Its checkpoint.")
    effects: Effects = Field(
        Effects.RECORD,
        description="`record`: steps that were recorded by the checkpoint answer, and others run; "
        "`replay`: all steps that the origin has ever recorded answer, and others run; `refuse`: "
        "they answer, and any other step fails the fork before it runs.",
    )


_EXAMPLE: Any = {
    "id": "exec_0192f0c1a6b87c3d9e4f5a6b7c8d9e0f",
    "name": "Survey of the spring",
    "description": "What was published on checkpoints?",
    "agent_id": "agent-7",
    "task_type": "research",
    "status": "running",
    "state": {"done": ["one", "two"]},
    "continues_from": "ckpt_000003",
    "checkpoints": [
        {
            "id": "ckpt_000003",
            "label": "two",
            "state": {"done": ["one", "two"]},
            "timestamp": "2026-11-24T10:00:07.250Z",
            "attempt": 1,
            "size": 22,
        },
        {
            "id": "ckpt_000002",
            "label": "one",
            "state": {"done": ["one"]},
            "timestamp": "2026-11-24T10:00:04Z",
            "attempt": 1,
            "size": 16,
        },
    ],
    "config": {
        "max_duration_seconds": None,
        "checkpoint_interval_seconds": 60.0,
        "max_retries": 3,
        "retry_delay_seconds": None,
        "keep_checkpoints": 100,
        "keep_labelled": None,
        "delete_after_seconds": None,
    },
    "elapsed_seconds": 8,
    "created_at": "2026-11-24T10:00:00Z",
    "started_at": "2026-11-24T10:00:01.5Z",
    "completed_at": None,
    "updated_at": "2026-11-24T10:00:07.250Z",
    "prefect": {
        "flow_run_id": "0192f0c1-a6b8-7c3d-9e4f-5a6b7c8d9e0f",
        "state_name": "Running",
        "message": None,
        "deployment": "7b1e7a4e-0f1c-4a57-8f0e-3f6f1b0c2d3a",
        "url": "https://prefect.example.com/runs/flow-run/0192f0c1-a6b8-7c3d-9e4f-5a6b7c8d9e0f",
        "attempt": 1,
        "runs_on": "ProcessWorker 4d0c2b51 (process 4711)",
    },
    "result": None,
    "forked_from": None,
}


class Execution(BaseModel):
    """A durable execution."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str = Field(description="`exec_` and the 32 hex digits of the flow run's id.")
    name: str = Field(description="What it is called.")
    description: str | None = Field(description="What it is for.")
    agent_id: str | None = Field(description="The agent that it belongs to.")
    task_type: str | None = Field(description="The kind of task.")
    status: Status = Field(description="Where it stands.")
    state: Any = Field(
        description="The newest durable state; null also where `state=false` has asked for none."
    )
    continues_from: str = Field(
        description="The id of the checkpoint that `state` is from, and that it is resumed from: "
        "the newest, or after a roll-back the earlier one. `ckpt_000000`: what it was created with."
    )
    checkpoints: list[Checkpoint] = Field(description="Its checkpoints, newest first.")
    config: ExecutionConfig = Field(description="How it is run.")
    elapsed_seconds: int = Field(
        description="Active time, in whole seconds, rounded down: pauses do not count."
    )
    created_at: datetime = Field(description="When it was created, or was to begin.")
    started_at: datetime | None = Field(description="When it first ran.")
    completed_at: datetime | None = Field(description="When it ended.")
    updated_at: datetime = Field(description="When its status or state last changed.")
    prefect: PrefectRun = Field(description="What Prefect knows of it.")
    result: Any = Field(
        None,
        description="What its flow has returned, or its agent has completed it with, as JSON; null "
        "until it has completed, and where that is no JSON or has over 256 KiB.",
    )
    forked_from: ForkOrigin | None = Field(
        None, description="The checkpoint that it was forked from; null when it was not."
    )


class Begun(Execution):
    """What the beginning of an attempt answers: `state` is what to continue from."""


class Summary(BaseModel):
    """An execution in a list: what Prefect knows of it, without its log."""

    id: str = Field(description="`exec_` and the 32 hex digits of the flow run's id.")
    name: str = Field(description="What it is called.")
    agent_id: str | None = Field(description="The agent that it belongs to.")
    task_type: str | None = Field(description="The kind of task.")
    status: Status = Field(description="Where it stands.")
    started_at: datetime | None = Field(description="When it first ran.")
    completed_at: datetime | None = Field(description="When it ended.")
    created_at: datetime = Field(description="When it was created, or was to begin.")
    updated_at: datetime = Field(description="When its status last changed.")
    prefect: FlowRunFacts = Field(description="What Prefect knows of it.")


class Page(BaseModel):
    """A part of a list of executions."""

    items: list[Summary] = Field(description="The executions; may be fewer than `limit`.")
    next_cursor: str | None = Field(description="What the next page begins at; null: none follows.")


class CheckpointPage(BaseModel):
    """A part of an execution's checkpoints."""

    items: list[Checkpoint] = Field(description="The checkpoints, newest first.")
    next_cursor: str | None = Field(description="What the next page begins at; null: none follows.")


class RecordedStep(BaseModel):
    """A call of a step, as the log has it."""

    step: str = Field(description="Its name; of a question `ask` and the model.")
    recorded_at: datetime = Field(description="When it was recorded.")
    called_with: str = Field(
        "", description="The beginning of its inputs, for people, such as `city='Oslo', days=3`."
    )
    outcome: str = Field(
        description="`done`: it has returned; `unkept`: it has, and its result can't be kept; "
        "`begun`: it has not returned, or it raised; `waiting`: for a person, a time, or an "
        "execution called in it."
    )
    result: Any = Field(None, description="What it has returned, as JSON.")
    result_left_out: bool = Field(
        False, description="Whether the result was left out, since the answer would be too large."
    )


class Diff(BaseModel):
    """What has changed between two checkpoints."""

    execution_id: str = Field(description="The execution.")
    checkpoint_id: str = Field(description="The checkpoint that the patch applies to.")
    other_id: str = Field(description="The checkpoint whose state it makes.")
    patch: list[dict[str, Any]] = Field(
        description="What changes the state: a JSON Patch (RFC 6902)."
    )
    steps: list[RecordedStep] = Field(
        [],
        description="What steps have recorded by the other checkpoint, and had not by this one, in "
        "the order in which they began.",
    )


class Question(BaseModel):
    """What a paused execution asks a person, by `run.ask`."""

    execution_id: str = Field(
        description="The execution that asks: one called in this one, where it waits for that."
    )
    id: str = Field(description="Tells the questions of an execution apart.")
    prompt: str = Field(description="The question, as Markdown.")
    answer_schema: dict[str, Any] = Field(description="JSON schema of the answer.")
    asked_at: datetime = Field(description="When it was asked.")


class Standing(BaseModel):
    """The status and the newest attempt of an execution, for an agent outside Prefect."""

    status: Status = Field(description="The execution's status: anything but running means stop.")
    attempt: int = Field(description="The newest attempt; another one than yours means stop.")


class Saved(Standing):
    """What saving a checkpoint answers."""

    checkpoint: Checkpoint = Field(description="The checkpoint.")


class Cost(BaseModel):
    """What an execution keeps in the store."""

    execution_id: str = Field(description="The execution.")
    entries: int = Field(description="The entries of its log: checkpoints, steps, attempts.")
    puts: int = Field(description="PUT requests that have made them: one each.")
    bytes_stored: int = Field(description="Bytes of them in the store.")


class Refusal(BaseModel):
    """Why something was not done."""

    code: str = Field(description="What clients decide by.")
    detail: str = Field(description="What people read.")


class BulkItem(BaseModel):
    """What became of one execution."""

    id: str = Field(description="The execution.")
    ok: bool = Field(description="Whether it was done, or was so already.")
    status: Status | None = Field(description="Its status; null: it is deleted, or not known.")
    problem: Refusal | None = Field(description="Why it was not done.")


class BulkResult(BaseModel):
    """What became of many executions."""

    items: list[BulkItem] = Field(description="One for each execution, in the order of the list.")
    next_cursor: str | None = Field(
        description="Give it with the same request to go on; null: all were acted on."
    )


class StepBehind(BaseModel):
    """A step that was done, and that a roll-back has forgotten: its effects have happened."""

    step: str = Field(description="Its name.")
    recorded_at: datetime = Field(description="When it was done.")
    called_with: str = Field(
        "", description="The beginning of its inputs, for people, such as `city='Oslo', days=3`."
    )
    undo: bool = Field(description="Whether it is undone before the execution goes on.")


class Resumed(Execution):
    """What a resume answers."""

    steps_behind: list[StepBehind] = Field(
        [], description="The steps that the roll-back has forgotten, newest first."
    )


class Forked(Execution):
    """What a fork answers: the first of the new executions."""

    forks: list[str] = Field([], description="The ids of all of them, in their order.")


class StepCounts(BaseModel):
    """How many calls of steps an execution has in common with others."""

    same: int = Field(description="In all of them, with the same result.")
    changed: int = Field(description="In all of them, with another result.")
    only: int = Field(description="Not in all of them.")


class Compared(BaseModel):
    """One of several executions that are compared."""

    id: str = Field(description="The execution.")
    name: str = Field(description="What it is called.")
    status: Status = Field(description="Where it stands.")
    result: Any = Field(description="What it has come to, as JSON; null until it has completed.")
    elapsed_seconds: int = Field(description="Active time, in whole seconds, rounded down.")
    attempts: int = Field(description="How many processes have begun to run it.")
    checkpoints: int = Field(
        description="How many checkpoints it has; 1,000 at most are looked at."
    )
    steps: StepCounts = Field(description="The calls of steps that have returned.")
    requests: int = Field(description="PUT requests that have made its log.")
    bytes_stored: int = Field(description="Bytes of it in the store.")


class ComparedStep(BaseModel):
    """A call of a step that is not the same in all executions that are compared."""

    step: str = Field(description="Its name.")
    what: Literal["same", "changed", "only"] = Field(
        description="`changed`: all have made the call, with other results; `only`: not all have "
        "made it, with these inputs."
    )
    ids: list[str] = Field(description="The executions that have made it.")


class ComparedCheckpoint(BaseModel):
    """Checkpoints of several executions whose labels agree."""

    label: str = Field(description="The label.")
    ids: dict[str, str] = Field(description="The checkpoint of each execution that has it.")
    patches: dict[str, list[dict[str, Any]] | None] = Field(
        description="Of each execution but the first: the JSON Patch that makes its state of the "
        "first one's; null where the answer would be too large."
    )


class Comparison(BaseModel):
    """Several executions, compared with the first of them."""

    executions: list[Compared] = Field(description="The executions, in the order of the request.")
    steps: list[ComparedStep] = Field(
        description="The calls that are not the same in all, 1,000 at most."
    )
    checkpoints: list[ComparedCheckpoint] = Field(
        description="The checkpoints with labels that the first and another one have, oldest first."
    )
