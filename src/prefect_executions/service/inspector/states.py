"""The state of an execution: as a tree, searched, and with what has changed last."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from prefect_executions import serialization
from prefect_executions.executions.executions import Executions
from prefect_executions.executions.reader import DIFF_BYTES
from prefect_executions.ids import checkpoint_id, checkpoint_seq
from prefect_executions.service.inspector.differences import differences
from prefect_executions.service.inspector.trees import FOUND, Node, Path, inside, search, tree

PAIRS = 20  # newest checkpoints among which two are looked for that differ


@dataclass(frozen=True)
class ShownState:
    """What a page shows of a state.

    Args:
        root: The tree; None where `at` leads nowhere.
        since: The checkpoint that it is compared with; None where there is none.
        at: The part of the state that is shown, as a JSON Pointer; "" for all.
        wanted: The text that is looked for; "" for none.
        found: Where it is; one more than `FOUND` where there is more.
    """

    root: Node | None
    since: str | None
    at: str
    wanted: str
    found: list[Node]

    @property
    def most(self) -> int:
        """How many places a search tells."""
        return FOUND

    def link(self, node: Node) -> str:
        """The query of a page that shows a part."""
        return urlencode({"tab": "state", "at": node.pointer})


def shown_state(
    seen: Executions, execution_id: str, query: Mapping[str, str], checkpoint: str | None = None
) -> ShownState:
    """A state, or a part of it, and what has changed with its checkpoint.

    Args:
        seen: The executions.
        execution_id: The execution.
        query: Of the page: the part of the state as `at`, and a text to look for as `find`.
        checkpoint: The checkpoint whose state it is; None for the newest state.

    Raises:
        CheckpointNotFound: There is no such checkpoint.
    """
    at, wanted = query.get("at", ""), query.get("find", "")
    log = seen.log(execution_id)
    if checkpoint is None:
        history = log.read(checkpoints=2)
    else:
        history = log.read_before(checkpoint_seq(execution_id, checkpoint), checkpoints=1)
    state = serialization.load(history.head.state)
    changed: dict[Path, str] = {}
    since = None
    before = [seq for seq in history.numbers if seq != history.head.entry.continues_from]
    if before and len(history.head.state) + len(history.state(before[0])) <= DIFF_BYTES:
        since = checkpoint_id(before[0])
        old = serialization.load(history.state(before[0]))
        changed = {each.path: each.told for each in differences(old, state)}
    try:
        part, path = inside(state, at)
    except LookupError:
        root = None
    else:
        root = tree(part, changed, path)
    found = search(state, wanted) if wanted else []
    return ShownState(root, since, at, wanted, found)


def last_that_differ(seen: Executions, execution_id: str) -> tuple[str, str] | None:
    """The newest two checkpoints, one after the other, whose states differ; None for none."""
    seen.run(execution_id)
    history = seen.log(execution_id).read(checkpoints=PAIRS)
    for new, old in zip(history.numbers, history.numbers[1:], strict=False):
        if history.state(new) != history.state(old):
            return checkpoint_id(old), checkpoint_id(new)
    return None
