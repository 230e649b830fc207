"""A LangGraph graph that pays invoices; before it does, a person is asked.

It needs `pip install "prefect-executions[langgraph]"`. Its model is a stand-in of LangChain's that
says what it is given to say, so that it runs offline: put yours in its place. The office is a
directory: `sent.txt` gets a line for each question to the supplier, which answers by a file with
the number of the invoice, and `paid.txt` one for each payment and each payment taken back:

    echo '900 cents' > office/7

If the process is killed, the graph goes on after its newest checkpoint, and no call of the model or
a tool that is recorded is made again. Before a payment the run is suspended, and no process waits.
Rolling back is time travel in the graph, and takes payments back.
"""

from pathlib import Path
from time import monotonic, sleep
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from prefect import flow
from pydantic import BaseModel

from prefect_executions import execution, step
from prefect_executions.langgraph import invoke, saver


class Work(TypedDict):
    """The state of the graph."""

    messages: Annotated[list[AnyMessage], add_messages]
    office: str
    number: str


class Approval(BaseModel):
    """What a person is asked before a payment."""

    approved: bool


def _note(office: str, name: str, line: str) -> None:
    with (Path(office) / name).open("a") as file:
        file.write(f"{line}\n")


@step
def think(said: list[str], reply: str) -> str:
    """Ask the model for the next message; this one replies what it is told to."""
    return f"{FakeListChatModel(responses=[reply]).invoke(said).text}"


@step
def ask_supplier(office: str, number: str, patience_seconds: float = 600) -> str:
    """Ask the supplier what an invoice comes to, and wait for the answer."""
    _note(office, "sent.txt", f"what is {number}?")
    answer, deadline = Path(office) / number, monotonic() + patience_seconds
    while not answer.exists():
        if monotonic() > deadline:
            raise TimeoutError(f"the supplier does not answer about {number}")
        sleep(0.2)
    return answer.read_text().strip()


def _take_back(paid: tuple[str, str]) -> None:
    _note(paid[0], "paid.txt", f"{paid[1]} taken back")


@step(undo=_take_back)
def pay(office: str, what: str) -> tuple[str, str]:
    """Pay."""
    _note(office, "paid.txt", what)
    return office, what


def _said(work: Work) -> list[str]:
    return [f"{message.text}" for message in work["messages"]]


def look_up(work: Work) -> dict[str, Any]:
    """Find out what is to be paid."""
    amount = ask_supplier(work["office"], work["number"])
    reply = think(_said(work), f"{amount} for invoice {work['number']}")
    return {"messages": [AIMessage(reply)]}


def settle(work: Work) -> dict[str, Any]:
    """Pay, if a person approves."""
    what = _said(work)[-1]
    if not interrupt(f"Pay {what}?")["approved"]:
        return {"messages": [AIMessage("It is not paid.")]}
    return {"messages": [AIMessage(f"Paid: {pay(work['office'], what)[1]}")]}


def report(work: Work) -> dict[str, Any]:
    """Sum up."""
    return {"messages": [AIMessage(think(_said(work), f"Done. {_said(work)[-1]}"))]}


_graph = StateGraph(Work)
_graph.add_node("look_up", look_up)
_graph.add_node("settle", settle)
_graph.add_node("report", report)
_graph.add_edge(START, "look_up")
_graph.add_edge("look_up", "settle")
_graph.add_edge("settle", "report")
_graph.add_edge("report", END)


@flow(log_prints=True)
@execution(max_retries=2)
def invoice_graph(office: Path, number: str = "7") -> str:
    """Pay an invoice, if a person approves it."""
    graph = _graph.compile(checkpointer=saver())
    said = [("user", f"Pay invoice {number}.")]
    work = invoke(graph, {"messages": said, "office": f"{office}", "number": number}, form=Approval)
    return f"{work['messages'][-1].text}"
