"""The commands for webhooks and their dead letters; they ask Prefect and the store themselves."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from cyclopts import App, Parameter
from pydantic import BaseModel

from prefect_executions.cli.exits import MISSING, REFUSED, USAGE, end
from prefect_executions.cli.output import Output

if TYPE_CHECKING:
    from prefect_executions.webhooks.dead_letters import DeadLetter, DeadLetters
    from prefect_executions.webhooks.hooks import Hook

app = App(
    name="webhooks",
    help="See webhooks, and send again what their receivers have refused; asks Prefect itself.",
)

_Hook = Annotated[str, Parameter(help="The webhook's name, or the id of a deleted one's block.")]
_Ids = Annotated[
    tuple[str, ...], Parameter(negative="", help="Of the dead letters, evt_…; by default all.")
]
_Store = Annotated[str | None, Parameter(help="The block; by default the settings'.")]
_Json = Annotated[bool, Parameter(negative="", help="Print JSON, for programs.")]

_TIMEOUT = 15.0  # seconds for a receiver's answer, as in a delivery


class _Row(BaseModel):
    """A webhook in a list, or what is left of one that was deleted."""

    name: str
    url: str | None = None
    enabled: bool = False
    delivered_until: datetime | None = None
    dead_letters: int


@dataclass(frozen=True)
class _Found:
    """A webhook, if it still exists, and its dead letters."""

    hook: "Hook | None"
    letters: "DeadLetters"

    def read(self, ids: tuple[str, ...]) -> "list[DeadLetter]":
        """The dead letters with these ids, or all; ends the command if one is not there."""
        found = list(self.letters.read(ids))
        if missing := sorted(set(ids) - {letter.id for letter in found}):
            end(MISSING, f"{', '.join(missing)}: there is no such dead letter of this webhook.")
        return found


@contextmanager
def _found(name: str, store: str | None) -> Iterator[_Found]:
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    from prefect_executions.stores.store import load_store  # noqa: PLC0415
    from prefect_executions.webhooks.dead_letters import DeadLetters  # noqa: PLC0415
    from prefect_executions.webhooks.hooks import read_hooks  # noqa: PLC0415

    with get_client(sync_client=True) as client:
        hooks = {f"{hook.document.name}": hook for hook in read_hooks(client)}
        hook = hooks.get(name)
        if hook is not None:
            objects = load_store(hook.webhook.store).open()
            yield _Found(hook, DeadLetters(objects, hook.document.id))
            return
    try:
        id_ = UUID(name)
    except ValueError:
        known = ", ".join(sorted(hooks)) or "none"
        end(MISSING, f"There is no webhook {name!r} in Prefect; these are there: {known}.")
    yield _Found(None, DeadLetters(load_store(store).open(), id_))


@app.command(name="list")
def list_(*, store: _Store = None, json: _Json = False) -> None:
    """List the webhooks for a store, with the numbers of their dead letters."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    from prefect_executions.stores.store import load_store  # noqa: PLC0415
    from prefect_executions.webhooks.dead_letters import count_dead_letters  # noqa: PLC0415
    from prefect_executions.webhooks.hooks import read_hooks  # noqa: PLC0415

    block = load_store(store)
    with get_client(sync_client=True) as client:
        hooks = [hook for hook in read_hooks(client) if hook.webhook.store == block.name]
    counts = count_dead_letters(block.open())
    rows = [
        _Row(
            name=f"{hook.document.name}",
            url=hook.webhook.url,
            enabled=hook.webhook.enabled,
            delivered_until=hook.webhook.delivered_until,
            dead_letters=counts.pop(hook.document.id, 0),
        )
        for hook in hooks
    ]
    rows += [_Row(name=f"{id_}", dead_letters=number) for id_, number in counts.items()]
    Output(as_json=json).rows(
        rows,
        "name url enabled delivered dead",
        (
            (
                row.name,
                row.url or "deleted",
                "yes" if row.enabled else "no",
                row.delivered_until,
                row.dead_letters,
            )
            for row in rows
        ),
    )


@app.command
def dead_letters(hook: _Hook, *, store: _Store = None, json: _Json = False) -> None:
    """List what the receiver of a webhook has refused too often, oldest first."""
    with _found(hook, store) as found:
        letters = found.read(())
    Output(as_json=json).rows(
        letters,
        "id what happened tries reason",
        (
            (letter.id, letter.subject, letter.occurred_at, letter.tries, letter.reason)
            for letter in letters
        ),
    )


@app.command
def send_again(hook: _Hook, ids: _Ids = (), /, *, json: _Json = False) -> None:
    """Send dead letters again from here, oldest first; what is accepted is removed.

    Exits with 1 if one was not accepted. It ends when the receiver can't be reached.
    """
    from prefect_executions.webhooks.sending import Verdict  # noqa: PLC0415

    with _found(hook, None) as found:
        if found.hook is None:
            end(MISSING, f"The webhook {hook} was deleted; its dead letters can be discarded.")
        found.read(ids)
        sent = list(found.letters.send_again(found.hook.webhook, ids, timeout=_TIMEOUT))
    output = Output(as_json=json)
    output.rows(
        [{"id": letter.id, "answer": answer.reason} for letter, answer in sent],
        "id answer",
        ((letter.id, answer.reason) for letter, answer in sent),
    )
    if any(answer.verdict is not Verdict.ACCEPTED for _, answer in sent):
        sys.exit(REFUSED)


@app.command
def discard(
    hook: _Hook,
    ids: _Ids = (),
    /,
    *,
    everything: Annotated[
        bool, Parameter(name="--all", negative="", help="All of the webhook, in place of ids.")
    ] = False,
    store: _Store = None,
) -> None:
    """Remove dead letters for good."""
    if everything is bool(ids):
        end(USAGE, "Give ids of dead letters, or --all: one of the two.")
    with _found(hook, store) as found:
        letters = found.read(ids)
        for letter in letters:
            found.letters.remove(letter)
    print(f"{len(letters)} were removed.")
