"""A fan-out: one sub-agent for each expert, all at once, and each of them is a step.

A sub-agent writes to its expert and waits for the answer. The post is a stand-in: a directory, in
which `sent.txt` gets a line for each letter, and an expert answers by a file of its name:

    echo 'Copper, mostly.' > post/ada

If the process is killed while some have answered, the flow begins anew and calls all sub-agents
again. Those that had finished give back their recorded replies at once; of the others each goes on
after the last step that it has recorded. They run on threads, as Prefect runs what is submitted.
"""

from pathlib import Path
from time import monotonic, sleep

from prefect import flow
from prefect.futures import as_completed
from pydantic import BaseModel

from prefect_executions import execution, step


class Reply(BaseModel):
    """What came of one sub-agent."""

    expert: str
    answer: str | None


class Inquiry(BaseModel):
    """The state: whose sub-agent has finished. It is for people; the flow does not depend on it."""

    finished: list[str] = []


@step
def send(expert: str, question: str, post: Path) -> None:
    """Write to an expert.

    A crash between the line and its record sends the letter again. A real service would be given
    an idempotency key, such as the execution's id and the expert, and send it once all the same.
    """
    post.mkdir(parents=True, exist_ok=True)
    with (post / "sent.txt").open("a") as sent:
        sent.write(f"{expert}: {question}\n")


@step
def receive(expert: str, post: Path, patience_seconds: float) -> str | None:
    """Wait for an expert's answer; None if none came in time."""
    deadline = monotonic() + patience_seconds
    while not (letter := post / expert).exists():
        if monotonic() > deadline:
            return None
        sleep(0.1)
    return letter.read_text().strip()


@step
def consult(expert: str, question: str, post: Path, patience_seconds: float) -> Reply:
    """Be a sub-agent: steps in a step. What it has done is kept even if it does not finish."""
    send(expert, question, post)
    return Reply(expert=expert, answer=receive(expert, post, patience_seconds))


@flow(name="fan-out")
@execution(state=Inquiry, max_retries=3)
def fan_out(
    post: Path,
    experts: list[str] = ["ada", "bob", "eve"],  # noqa: B006  # Prefect shows it in its form
    question: str = "What keeps a hull clean?",
    patience_seconds: float = 60,
) -> list[Reply]:
    """Ask several experts at once, and gather what they answer.

    Args:
        post: The directory that letters go through.
        experts: Whom to ask.
        question: What to ask them.
        patience_seconds: How long to wait for each.
    """
    run = execution.current(Inquiry)
    run.state.finished = []
    futures = [consult.submit(expert, question, post, patience_seconds) for expert in experts]
    for future in as_completed(futures):
        run.state.finished.append(future.result().expert)
        run.checkpoint(label=f"{run.state.finished[-1]} is done")
    return [future.result() for future in futures]
