"""Comparing executions: what they have come to, their steps, and their states label by label."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from prefect_executions import serialization
from prefect_executions.executions.reader import ExecutionReader
from prefect_executions.executions.views import execution_of, patch_of
from prefect_executions.ids import checkpoint_id
from prefect_executions.log.branches import Identity, identities
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.log.reader import History
from prefect_executions.models import (
    Compared,
    ComparedCheckpoint,
    ComparedStep,
    Comparison,
    Execution,
    StepCounts,
)

MOST = 10  # executions that are compared at once
CHECKPOINTS = 1_000  # of each execution, the newest
STEPS = 1_000  # that are listed
STATES_BYTES = 4 << 20  # of states between which patches are made, in one answer
_RETURNED = (Outcome.DONE, Outcome.UNKEPT)

Differing = Callable[[Any, Any], list[dict[str, Any]]]


@dataclass(frozen=True)
class _Side:
    """One of the executions."""

    execution: Execution
    history: History
    records: dict[Identity, Record]
    bytes_stored: int
    entries: int


def compare(
    executions: ExecutionReader, ids: list[str], *, differing: Differing = patch_of
) -> Comparison:
    """Compare executions: of each one LIST, its size, and mostly one round of GETs.

    Args:
        executions: Where they are.
        ids: Two to `MOST`; the others are compared with the first.
        differing: Makes `patches`, of the state of the first and that of another: by default the
            JSON Patch from one to the other.

    Raises:
        ExecutionNotFound: one of them is not there, or not seen.
    """
    sides = [_read(executions, id_) for id_ in ids]
    identities_ = dict.fromkeys(identity for side in sides for identity in side.records)
    steps = [_step(sides, identity) for identity in identities_]
    return Comparison(
        executions=[_compared(side, steps) for side in sides],
        steps=[step for step in steps if step.what != "same"][:STEPS],
        checkpoints=list(_checkpoints(sides, differing)),
    )


def _read(executions: ExecutionReader, id_: str) -> _Side:
    run, log = executions.run(id_), executions.log(id_)
    history = log.read(checkpoints=CHECKPOINTS, journal=True)
    known = history.head.records()
    returned = {
        identity: known[order]
        for order, identity in identities(known)
        if known[order].outcome in _RETURNED
    }
    entries, size = log.cost()
    execution = execution_of(run, history, executions.clock(), states=False)
    return _Side(execution, history, returned, size, entries)


def _compared(side: _Side, steps: list[ComparedStep]) -> Compared:
    it = side.execution
    own = [step.what for step in steps if it.id in step.ids]
    return Compared(
        id=it.id,
        name=it.name,
        status=it.status,
        result=it.result,
        elapsed_seconds=it.elapsed_seconds,
        attempts=it.prefect.attempt,
        checkpoints=len(it.checkpoints),
        steps=StepCounts(
            same=own.count("same"), changed=own.count("changed"), only=own.count("only")
        ),
        requests=side.entries,
        bytes_stored=side.bytes_stored,
    )


def _step(sides: list[_Side], identity: Identity) -> ComparedStep:
    has = [side for side in sides if identity in side.records]
    records = [side.records[identity] for side in has]
    what: Literal["same", "changed", "only"]
    if len(has) < len(sides):
        what = "only"
    else:
        what = "same" if len({_returned(record) for record in records}) == 1 else "changed"
    return ComparedStep(step=records[0].step, what=what, ids=[side.execution.id for side in has])


def _returned(record: Record) -> tuple[str, bytes | str | None]:
    """What tells one result from another."""
    result = record.large.sha256 if record.large else record.result
    return record.outcome.value, result


def _checkpoints(sides: list[_Side], differing: Differing) -> Iterator[ComparedCheckpoint]:
    """The checkpoints whose labels agree, in the order of the first execution.

    Of several with one label the first of each belong together, and so on.
    """
    labelled = [_labelled(side.history) for side in sides]
    left = STATES_BYTES
    for place, seq in labelled[0].items():
        seqs = [known.get(place) for known in labelled]
        if sum(known is not None for known in seqs) < 2:
            continue
        ids: dict[str, str] = {}
        patches: dict[str, list[dict[str, Any]] | None] = {}
        first = sides[0].history.state(seq)
        for side, at in zip(sides, seqs, strict=True):
            if at is None:
                continue
            ids[side.execution.id] = checkpoint_id(at)
            if side is sides[0]:
                continue
            other = side.history.state(at)
            if other == first:
                patches[side.execution.id] = []
            elif (size := len(first) + len(other)) <= left:
                left -= size
                both = (serialization.load(state) for state in (first, other))
                patches[side.execution.id] = differing(*both)
            else:
                patches[side.execution.id] = None
        yield ComparedCheckpoint(label=place[0], ids=ids, patches=patches)


def _labelled(history: History) -> dict[tuple[str, int], int]:
    """The numbers of checkpoints by their labels, and which of those with one label they are."""
    found: dict[tuple[str, int], int] = {}
    times = Counter[str]()
    for entry in reversed(history.checkpoints()):
        if entry.label is not None:
            found[entry.label, times[entry.label]] = entry.seq
            times[entry.label] += 1
    return found
