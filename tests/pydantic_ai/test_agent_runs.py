"""Which run of an agent is which: by what it is given, and its place among equal ones."""

from typing import Any

import pytest
from prefect import flow
from pydantic import BaseModel
from pydantic_ai import RunContext

from agent_flows import durable, run_twice
from prefect_executions import execution
from prefect_executions.errors import AmbiguousCall
from prefect_executions.pydantic_ai import MessageHistory
from prefect_executions.testkit import TestKit
from scripted_models import calls, says, scripted
from trials import act, acts, ended, made


class Chat(BaseModel):
    history: MessageHistory = MessageHistory()
    rounds: int = 0


agent = durable(scripted(lambda messages: act(f"answer {len(messages)}")))


@flow
@execution(state=Chat)
async def talks(rounds: int, pauses: bool = False) -> list[str]:
    """Says the same in each round; what was said before tells the rounds apart."""
    run = execution.current(Chat)
    while run.state.rounds < rounds:
        result = await agent.run("go on", message_history=run.state.history.messages)
        run.state.history = MessageHistory.of(result)
        run.state.rounds += 1
        await run.acheckpoint(label=f"round {run.state.rounds}")
    if pauses:
        await run.apause("Is all well?")
    messages = run.state.history.messages
    return [str(part.content) for message in messages for part in message.parts]  # type: ignore[union-attr]


TALKED = ["go on", "ANSWER 1", "go on", "ANSWER 3", "go on", "ANSWER 5"]


@pytest.mark.long
def test_a_conversation_goes_on_where_it_was(kit: TestKit) -> None:
    survived = kit.crash_everywhere(
        talks,
        {"rounds": 3},
        before=acts.clear,
        check=lambda _: _require_each_once(),
        compare=lambda trial: {"the result": trial.result},
        lose_writes=False,
        points=6,
    )

    assert survived.undisturbed.result == TALKED


def _require_each_once() -> None:
    assert acts == {
        **{f"model {n}": 1 for n in range(3)},
        **{f"answer {n}": 1 for n in (1, 3, 5)},
    }


def test_a_roll_back_takes_the_conversation_back(kit: TestKit) -> None:
    trial = kit.start(talks, rounds=3, pauses=True)
    first = next(point for point in trial.get().checkpoints if point.label == "round 1")
    acts.clear()

    trial.resume(checkpoint_id=first.id)

    assert trial.status == "paused"
    assert acts == {"model 1": 1, "model 2": 1, "answer 3": 1, "answer 5": 1}
    assert len(first.state["history"]) == 2
    trial.resume()
    assert trial.result == TALKED


def test_equal_runs_have_their_places(kit: TestKit) -> None:
    async def body() -> list[str]:
        return [str((await counting.run("hi")).output) for _ in range(3)]

    counting = durable(scripted(lambda _: act(f"answer {len(made)}")))
    first, second, _ = run_twice(kit, body)

    assert first == second
    assert len(set(first)) == 3
    assert acts["model 0"] == 3


def test_an_equal_run_after_the_state_has_changed_is_refused_unless_it_has_an_id(
    kit: TestKit,
) -> None:
    @flow
    @execution(state=Chat)
    async def forgets(named: bool) -> int:
        run = execution.current(Chat)
        while run.state.rounds < 3:
            run_id = f"round {run.state.rounds}" if named else None
            await agent.run("go on", run_id=run_id)
            run.state.rounds += 1
            await run.acheckpoint()
        return acts["model 0"]

    refused = kit.start(forgets, named=False)
    taken = ended(kit.start(forgets, named=True))

    assert isinstance(refused.error, AmbiguousCall)
    assert "guide: run" in str(refused.error)
    assert taken.result == 4


def test_a_run_that_has_raised_and_is_made_again_is_the_same_run(kit: TestKit) -> None:
    """Also after a crash, when the first try finds what the second one has done."""
    weak = durable(scripted([calls("send")], [calls("fail")], says))

    @weak.tool_plain
    def send() -> str:
        return act("send")

    @weak.tool_plain
    def fail() -> str:
        act("fail")
        if acts["fail"] < 3:
            raise ConnectionError("no luck")
        return "sent"

    async def body() -> str:
        while True:
            try:
                return str((await weak.run("hi")).output)
            except ConnectionError:
                continue

    assert run_twice(kit, body)[:2] == ("sent", "sent")
    assert acts == {"model 0": 1, "model 1": 1, "model 2": 1, "send": 1, "fail": 3}


def test_a_run_has_one_id_in_all_attempts(kit: TestKit) -> None:
    async def body() -> list[str]:
        results = [await looking.run(text) for text in ("a", "b")]
        return [*(result.run_id for result in results), results[0].all_messages()[0].run_id or ""]

    looking = durable(scripted([calls("look")], says))

    @looking.tool
    def look(ctx: RunContext[Any]) -> str:
        return act(f"for {ctx.run_id}")

    first, second, _ = run_twice(kit, body)

    assert first == second
    assert first[0] == first[2] != first[1]
    assert acts[f"for {first[0]}"] == acts[f"for {first[1]}"] == 1


def test_a_tool_sees_the_id_that_its_run_began_with(kit: TestKit) -> None:
    """Although the state has changed meanwhile, by which the id of a run is made."""
    seen = []
    changing = durable(scripted([calls("change")], [calls("fail")], says))

    @changing.tool
    async def change(ctx: RunContext[Any]) -> str:
        seen.append(ctx.run_id)
        run = execution.current(Chat)
        run.state.rounds += 1
        await run.acheckpoint()
        return "changed"

    @changing.tool
    async def fail(ctx: RunContext[Any]) -> str:
        seen.append(ctx.run_id)
        if len(seen) == 2:
            raise RuntimeError("once")
        return "failed once"

    @flow
    @execution(state=Chat, max_retries=1)
    async def changes() -> str:
        return str((await changing.run("hi")).output)

    assert ended(kit.start(changes)).result == "failed once"
    assert len(seen) == 3
    assert len(set(seen)) == 1
