"""A research agent: plan, search and read in a loop, ask a person, publish; every tool is a step.

The tools are stand-ins: a plan and a search over four texts in this file, no model and no network,
so that the agent does the same wherever it runs. Put yours in their place. What stays is the flow:

* A step's result is recorded. After a crash the flow begins anew with the state of its newest
  checkpoint, and the steps after that one give back what they gave, without running again.
* The loop goes on by its state, and saves it once a round.
* The question ends the process; the answer starts another, on any worker.
* Rolling back to before `publish` takes the published file away.
"""

import re
from datetime import timedelta
from pathlib import Path

from prefect import flow
from pydantic import BaseModel

from prefect_executions import execution, step

QUESTION = "How do hull, sails and winds make a clipper fast?"
LIBRARY = {
    "hulls": "A clipper's hull is long and narrow: less water to push aside, less cargo to carry.",
    "sails": "More sails, and higher ones, catch the steadier wind above. They need a large crew.",
    "winds": "In 1853 Maury's charts of winds and currents were a month shorter to California.",
    "copper": "Copper plates keep weed and worm off the planks. A clean bottom is a fast one.",
}


class Page(BaseModel):
    """What was read."""

    title: str
    text: str


class Research(BaseModel):
    """The state: what there is to read, and what was found."""

    todo: list[str] | None = None  # None: nothing is planned yet
    found: list[Page] = []
    published: Path | None = None


class Approval(BaseModel):
    """What a person is asked before anything is published."""

    approved: bool
    title: str = "Findings"


@step
def plan(question: str) -> list[str]:
    """Say what to search for. Stands in for a model: the longer words of the question."""
    return [word for word in re.findall(r"\w+", question.lower()) if len(word) > 3]


@step(retries=2)
def search(words: str) -> list[str]:
    """Name the pages about something. Stands in for a search engine."""
    return [title for title, text in LIBRARY.items() if words in f"{title} {text}".lower()]


@step(retries=2)
def read(title: str) -> Page:
    """Read a page. Stands in for a download."""
    return Page(title=title, text=LIBRARY[title])


def unpublish(file: Path) -> None:
    """Take back what was published."""
    file.unlink(missing_ok=True)


@step(undo=unpublish)
def publish(file: Path, text: str) -> Path:
    """Publish a report. Stands in for a website: done twice it is as if it were done once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@flow(name="research-agent")
@execution(state=Research, max_retries=3)
def research_agent(directory: Path, question: str = QUESTION) -> Path | None:
    """Research a question, and publish what was found if somebody approves.

    Args:
        directory: Where the report is published.
        question: What to look into.
    """
    run = execution.current(Research)
    state = run.state
    if state.todo is None:
        state.todo = plan(question)
        run.checkpoint(label="planned")
    while state.todo:
        words = state.todo[0]
        for title in search(words):
            if title not in [page.title for page in state.found]:
                state.found.append(read(title))
        del state.todo[0]
        run.checkpoint(label=f"searched for {words}")

    report = "\n\n".join(f"## {page.title}\n\n{page.text}" for page in state.found)
    answer = run.ask(Approval, prompt=f"Shall this be published?\n\n{report}")
    if answer.approved:
        file = directory / f"{run.id}.md"
        state.published = publish(file, f"# {answer.title}\n\n{report}\n")
        run.checkpoint(label="published")
        run.pause("Published. Resume, or roll back to take it back.", until=timedelta(days=7))
    return state.published
