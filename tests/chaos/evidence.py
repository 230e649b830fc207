"""What an execution leaves after the chaos, and the laws that this must keep."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import FlowRun

from chaos.tasks import EDITED, Work, undisturbed
from prefect_executions.ids import checkpoint_id, checkpoint_seq
from prefect_executions.log.entry import Entry, Kind
from prefect_executions.log.log import ExecutionLog
from prefect_executions.prefect.states import state_of

Line = dict[str, Any]
_FORKING = 10.0  # seconds: how long before a fork is there its origin was read, at most


@dataclass(frozen=True)
class Evidence:
    """All that is known about one execution.

    Args:
        execution: Its id.
        parameters: The parameters of its flow.
        status: The name of its flow run's state.
        entries: Its log, by numbers.
        states: The state in force after each entry.
        keys: How many objects its log has.
        ledger: The lines that its processes have written, in order.
        origin: Of a fork: the execution and the checkpoint that it continues from.
    """

    execution: str
    parameters: dict[str, Any]
    status: str
    entries: dict[int, Entry]
    states: dict[int, Work]
    keys: int
    ledger: list[Line]
    origin: tuple[str, str] | None = None

    @classmethod
    def of(cls, run: FlowRun, log: ExecutionLog, data: Path) -> "Evidence":
        """Collect what an execution has left."""
        history = log.read(checkpoints=None)
        ahead = [seq for seq in log.numbers() if seq > history.head.entry.seq]
        entries = history.entries | log.read_entries(ahead)  # claims may be left ahead of the head
        fork = (entries[0].meta or {}).get("fork")
        return cls(
            execution=log.execution_id,
            parameters=run.parameters,
            status=state_of(run).name or "",
            entries=dict(sorted(entries.items())),
            states={
                seq: Work.model_validate_json(history.state(seq))
                for seq, entry in entries.items()
                if entry.kind is not Kind.CLAIM
            },
            keys=len(list(log.objects.scan(_prefix(log)))),
            ledger=ledger(data, log.execution_id),
            origin=fork and (fork["execution_id"], fork["checkpoint_id"]),
        )

    @cached_property
    def expected(self) -> Work:
        """The result of an undisturbed run."""
        return undisturbed(self.parameters["seed"], self.parameters["steps"])

    @cached_property
    def begun(self) -> dict[int, Entry]:
        """The entry in which each attempt began."""
        return {e.attempt: e for e in self.entries.values() if e.kind is Kind.ATTEMPT}

    @cached_property
    def attempts(self) -> dict[int, list[Line]]:
        """The lines of each attempt."""
        lines: dict[int, list[Line]] = defaultdict(list)
        for line in self.ledger:
            lines[line["attempt"]].append(line)
        return lines

    def lines(self, kind: str) -> list[Line]:
        """The lines of one kind."""
        return [line for line in self.ledger if line["kind"] == kind]


# ---------------------------------------------------------------------- the laws


def lost(of: Evidence) -> Iterator[str]:
    """Every checkpoint whose save returned is in the log, as it was saved."""
    known = {checkpoint_id(seq): entry for seq, entry in of.entries.items()}
    for ack in of.lines("ack"):
        entry = known.get(ack["checkpoint"])
        if entry is None or entry.kind is not Kind.CHECKPOINT:
            yield f"{ack} is not in the log"
            continue
        there = (entry.label, entry.attempt, of.states[entry.seq].fingerprint)
        if there != (ack["label"], ack["attempt"], ack["fingerprint"]):
            yield f"{ack} is in the log as {there}"


def unedited(of: Evidence, edits: Iterable[str]) -> Iterator[str]:
    """Every acknowledged correction of a person is in the log.

    Args:
        of: The execution.
        edits: The checkpoints of the corrections.
    """
    known = {checkpoint_id(seq) for seq, entry in of.entries.items() if entry.label == EDITED}
    yield from (f"the correction {edit} is not in the log" for edit in {*edits} - known)


def split(of: Evidence) -> Iterator[str]:
    """The history is linear: one attempt at a time, and each continues the one before it."""
    newest = max(of.states)  # what is ahead of it are claims, between which numbers may be free
    until_newest = [seq for seq in of.entries if seq <= newest]
    if until_newest != [*range(newest + 1)] or len(of.entries) != of.keys:
        yield f"{of.keys} entries with the numbers {[*of.entries]}"
    history = [entry for entry in of.entries.values() if entry.kind is not Kind.CLAIM]
    for before, entry in pairwise(history):
        yield from (f"entry {entry.seq}: {what}" for what in _breaks(of, before, entry))


def _breaks(of: Evidence, before: Entry, entry: Entry) -> Iterator[str]:
    """Why an entry does not continue the one before it, for each reason."""
    old, new = of.states[before.seq], of.states[entry.seq]
    begins = entry.kind is Kind.ATTEMPT
    if entry.attempt != before.attempt + begins:
        yield f"attempt {entry.attempt} after attempt {before.attempt}"
    if entry.kind in (Kind.CREATED, Kind.DELETED):
        yield f"{entry.kind} in the midst of a life"
    elif entry.label == EDITED:
        if new != old.model_copy(update={"edits": old.edits + 1}):
            yield f"a person makes {new} of {old}"
    elif entry.kind is Kind.CHECKPOINT:
        if new.edits != old.edits:
            yield f"attempt {entry.attempt} saves {new}, which lacks a correction of {old}"
        if before.kind not in (Kind.CHECKPOINT, Kind.ATTEMPT, Kind.STEPS):
            yield f"a checkpoint of attempt {entry.attempt} behind its {before.kind}"
        if new.by != old.by + [entry.attempt] * (new.n - old.n) or new.notes[: old.n] != old.notes:
            yield f"attempt {entry.attempt} saves {new}, which does not continue {old}"
    elif entry.kind is Kind.ROLLBACK:
        if entry.source is None or new != of.states[entry.source]:
            yield f"rolls back to {entry.source} with another state"
    elif new != old or entry.source != before.continues_from:
        yield f"{entry.kind} from entry {entry.source} alters the state"


def misled(of: Evidence) -> Iterator[str]:
    """The execution has completed with the result of an undisturbed run."""
    if of.status != "Completed":
        yield f"it is {of.status}"
    found, expected = of.states[max(of.states)], of.expected
    if found.model_copy(update={"by": expected.by, "edits": expected.edits}) != expected:
        yield f"its state is {found}"
    yield from (
        f"{result} is another result"
        for result in of.lines("result")
        if (result["step"], result["digest"]) != (expected.n, expected.digest)
    )


def repeated(of: Evidence) -> Iterator[str]:
    """An attempt takes each step once, and only steps after the state that it continues from."""
    for attempt, lines in of.attempts.items():
        if attempt not in of.begun:
            yield f"attempt {attempt} took steps and is not in the log"
            continue
        first = of.states[of.begun[attempt].seq].n
        begins = [line["step"] for line in lines if line["kind"] == "begin"]
        steps = [line["step"] for line in lines if line["kind"] == "effect"]
        if begins != [first] or len({line["pid"] for line in lines}) != 1:
            yield f"attempt {attempt} continues from step {first} and begins as {lines[:3]}"
        if steps != [*range(first + 1, first + 1 + len(steps))]:
            yield f"attempt {attempt} from step {first} on takes steps {steps}"
    yield from _saved_steps_repeated(of)
    yield from _unheard_steps(of)
    effects = Counter(line["step"] for line in of.lines("effect"))
    if effects and max(effects.values()) > len(of.begun):
        yield f"{len(of.begun)} attempts take a step {max(effects.values())} times"


def refetched(of: Evidence) -> Iterator[str]:
    """A step with a recorded result is not run again, unless a roll-back has removed it."""
    rollbacks = [entry for entry in of.entries.values() if entry.kind is Kind.ROLLBACK]
    recorded: dict[int, set[int]] = defaultdict(set)  # the attempts that fetched it
    for line in of.ledger:
        step, attempt = line["step"], line["attempt"]
        if line["kind"] == "fetched":
            recorded[step].add(attempt)
        if line["kind"] != "fetch" or attempt not in of.begun:
            continue
        now = of.begun[attempt].seq
        for earlier in recorded[step]:
            since = of.begun[earlier].seq
            if earlier <= attempt and not any(
                since < entry.seq < now and of.states[entry.seq].n < step for entry in rollbacks
            ):
                yield f"attempt {attempt} fetches {step}, which attempt {earlier} has recorded"


def _saved_steps_repeated(of: Evidence) -> Iterator[str]:
    """A step before a saved checkpoint is taken again only after a roll-back."""
    saved = {ack["checkpoint"]: ack["step"] for ack in of.lines("ack")}
    reached = 0
    for entry in of.entries.values():
        reached = max(reached, saved.get(checkpoint_id(entry.seq), 0))
        if entry.kind is Kind.ROLLBACK:
            reached = of.states[entry.seq].n
        if entry.kind is Kind.ATTEMPT:
            for line in of.attempts.get(entry.attempt, []):
                if line["kind"] == "effect" and line["step"] <= reached:
                    yield f"step {reached} was saved, and attempt {entry.attempt} does {line}"


def _unheard_steps(of: Evidence) -> Iterator[str]:
    """No state has a step that the attempt named in it has not taken."""
    taken = {(line["attempt"], line["step"]) for line in of.lines("effect")}
    final = of.states[max(of.states)]
    for step, attempt in enumerate(final.by, 1):
        if step > of.states[0].n and (attempt, step) not in taken:  # a fork begins with some
            yield f"the state says that attempt {attempt} took step {step}"


def forked(of: Evidence, origin: Evidence) -> Iterator[str]:
    """A fork begins with the state of its checkpoint, and with what steps had recorded by then."""
    assert of.origin is not None
    start = checkpoint_seq(*of.origin)
    if of.states[0] != origin.states.get(start):
        yield f"it begins with {of.states[0]}, which is not the state of {of.origin}"
    rollbacks = [e.seq for e in origin.entries.values() if e.kind is Kind.ROLLBACK]
    since = max([seq for seq in rollbacks if seq <= start], default=0)
    known = of.entries[0].at.timestamp() - _FORKING
    if start in origin.entries:
        known = min(known, origin.entries[start].at.timestamp())
    recorded = {
        line["step"]
        for line in origin.lines("fetched")
        if line["at"] < known
        and line["attempt"] in origin.begun
        and origin.begun[line["attempt"]].seq > since
    }
    again = {line["step"] for line in of.lines("fetch")} & recorded
    yield from (f"it fetches {step}, which {origin.execution} has recorded" for step in again)


def exceeded(runs: Iterable[FlowRun], limit: int) -> Iterator[str]:
    """No deployment has more runs at once than its concurrency limit.

    Args:
        runs: All that are Pending or Running at one instant.
        limit: The limit of each deployment.
    """
    taken = Counter(run.deployment_id for run in runs)
    yield from (f"{n} of {limit} runs of {id_}" for id_, n in taken.items() if n > limit)


def overlaps(of: Evidence) -> int:
    """How many attempts went on after a later one had begun."""
    newest = 0
    late = set()
    for line in of.ledger:
        newest = max(newest, line["attempt"])
        if line["attempt"] < newest:
            late.add(line["attempt"])
    return len(late)


def _prefix(log: ExecutionLog) -> str:
    return f"{log.execution_id[-2:]}/{log.execution_id}/"


def ledger(data: Path, execution: str) -> list[Line]:
    """The lines that the processes of an execution have written, in order."""
    file = data / f"{execution}.ledger"
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]
