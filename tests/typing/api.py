"""The public API as a type checker sees it: checked by mypy, never run."""

from typing import Any, assert_type

from prefect import State, Task, flow
from pydantic import BaseModel

from prefect_executions import Run, execution, step


class Survey(BaseModel):
    done: list[str] = []


@flow
@execution(state=Survey)
def survey(topic: str, depth: int = 1) -> Survey:
    run = execution.current(Survey)
    assert_type(run, Run[Survey])
    assert_type(run.state, Survey)
    assert_type(run.checkpoint(label=topic), str | None)
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
    assert_type(await run.acheckpoint(), str | None)
    return len(topic)


assert_type(survey("a", depth=2), Survey)
survey(1)  # type: ignore[call-overload]  # the signature is kept, so this is seen


async def use() -> None:
    assert_type(await bare("a"), int)


class Answer(BaseModel):
    yes: bool


@step
def fetch(url: str, tries: int = 1) -> Survey:
    return Survey(done=[url] * tries)


@step(name="count", key="count-{text}", retries=2, tags=["slow"], timeout_seconds=5)
async def count(text: str) -> int:
    return len(text)


plain: Task[[str, int], Survey] = fetch
assert_type(fetch("a", tries=2), Survey)
assert_type(fetch.submit("a").result(), Survey)
assert_type(fetch.map(["a", "b"]).result(), list[Survey])
assert_type(count.submit("a").result(), int)
assert_type(count.map(["a", "b"]).result(), list[int])
assert_type(fetch.submit("a", return_state=True), State[Survey])
fetch(1)  # type: ignore[call-overload]
fetch.submit(1)  # type: ignore[call-overload]
step(key=1)  # type: ignore[call-overload]


@flow
@execution(durability="async")
async def steps() -> bool:
    assert_type(await count("a"), int)
    answer = await execution.current().aask(Answer, prompt="Shall we?")
    assert_type(answer, Answer)
    assert_type(await count.with_options(retries=1)("a"), int)
    return answer.yes
