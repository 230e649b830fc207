"""The public API as a type checker sees it: checked by mypy, never run."""

from typing import Any, assert_type

from prefect import flow
from pydantic import BaseModel

from prefect_executions import Run, execution


class Survey(BaseModel):
    done: list[str] = []


@flow
@execution(state=Survey)
def survey(topic: str, depth: int = 1) -> Survey:
    run = execution.current(Survey)
    assert_type(run, Run[Survey])
    assert_type(run.state, Survey)
    assert_type(run.checkpoint(label=topic), str)
    assert_type(execution.current(), Run[Any])
    return run.state


@flow
@execution(max_retries=3, retry_delay_seconds=1.5, checkpoint_interval_seconds=30)
def patient() -> None:
    execution.current().publish()


execution(max_retry=3)  # type: ignore[call-overload]


@flow
@execution
async def bare(topic: str) -> int:
    run = execution.current()
    assert_type(await run.acheckpoint(), str)
    return len(topic)


assert_type(survey("a", depth=2), Survey)
survey(1)  # type: ignore[call-overload]  # the signature is kept, so this is seen


async def use() -> None:
    assert_type(await bare("a"), int)
