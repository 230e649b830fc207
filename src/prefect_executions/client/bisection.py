"""The first bad checkpoint of an execution, found by halving.

It runs where the client runs: what says that a state is bad is code, and no business of the
service.
"""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field

from prefect_executions.client.problems import Invalid
from prefect_executions.client.sync import Client
from prefect_executions.models import Checkpoint, Diff

NEAR = 4  # numbers around the border: all checkpoints among them are looked at
_FIRST = "ckpt_000000"  # the state before the first checkpoint


class Bisection(BaseModel):
    """Where an execution went wrong."""

    bad: Checkpoint = Field(description="The first bad checkpoint.")
    good: Checkpoint | None = Field(
        description="The one before it; null when the first checkpoint of all is bad."
    )
    wavering: list[str] = Field(
        description="Checkpoints near these two that are bad before the good one, or good after "
        "the bad one: where there are some, another border may be the one that matters."
    )
    diff: Diff | None = Field(
        description="What changed between the two, and the steps recorded in between; null when "
        "their states are too large for the service to compare."
    )
    loads: int = Field(description="How many requests for states it took.")


def bisect(
    client: Client,
    execution_id: str,
    is_bad: Callable[[Any], bool],
    *,
    good: str | None = None,
    bad: str | None = None,
) -> Bisection:
    """Find the first bad checkpoint of an execution: of 10,000 by about 14 requests for states.

    All before the first bad one are taken for good, and all after it for bad. Whether that holds is
    checked for those around it; see `Bisection.wavering`.

    Args:
        client: A client of the service.
        execution_id: The execution.
        is_bad: Called with the state of a checkpoint, as JSON; returns whether it is bad.
        good: A checkpoint that is good: only those after it are looked at.
        bad: A checkpoint that is bad; by default the newest.

    Raises:
        ValueError: there is no checkpoint, the last one is not bad, the first one is not good, or
            `is_bad` has failed; the message names the checkpoint.
        NotFound: there is no such execution.
    """
    search = _Narrowing(client, execution_id, is_bad)
    found = search.newest_until(bad)
    if found is None:
        raise ValueError(
            f"{execution_id} has no checkpoint{'' if bad is None else f' up to {bad}'}."
        )
    if not search.is_bad(found):
        raise ValueError(f"{found.id} is not bad, so that there is nothing to look for before it.")
    start = 0
    if good is not None:
        first = search.newest_until(good)
        if first is None or first.id != good:
            raise ValueError(f"good: {execution_id} has no checkpoint {good}.")
        if search.is_bad(first):
            raise ValueError(f"good: {good} is bad; name a checkpoint that is not.")
        start = _number(good)
    below = start  # up to this number all are good
    while _number(found.id) - below > NEAR:
        middle = (below + _number(found.id)) // 2
        probe = search.newest_until(_id(middle))
        if probe is not None and _number(probe.id) > below and search.is_bad(probe):
            found = probe
        else:
            below = middle
    return search.around(found, below, start)


class _Narrowing:
    """Loads checkpoints, and counts how often."""

    def __init__(self, client: Client, execution_id: str, is_bad: Callable[[Any], bool]) -> None:
        self._client = client
        self._id = execution_id
        self._is_bad = is_bad
        self._known: dict[str, bool] = {}
        self._loads = 0

    def newest_until(self, until: str | None) -> Checkpoint | None:
        """The checkpoint with this id, or the newest before it."""
        return next(iter(self._load(until, 1)), None)

    def is_bad(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is bad; each is asked for once.

        Raises:
            ValueError: the caller's predicate has failed.
        """
        if checkpoint.id not in self._known:
            try:
                self._known[checkpoint.id] = bool(self._is_bad(checkpoint.state))
            except Exception as error:
                what = f"{type(error).__name__}: {error}"
                raise ValueError(
                    f"whether {checkpoint.id} is bad can't be said, by {what}. Let it be said of "
                    "every state; or leave the first ones out, by naming a good one."
                ) from error
        return self._known[checkpoint.id]

    def around(self, found: Checkpoint, below: int, start: int) -> Bisection:
        """Look at all checkpoints around a bad one, the first of which comes after `below`."""
        page = self._load(_id(_number(found.id) + NEAR), 3 * NEAR)
        near = [each for each in reversed(page) if _number(each.id) >= start]
        at = next(
            at for at, each in enumerate(near) if _number(each.id) > below and self.is_bad(each)
        )
        good, bad = near[at - 1] if at else None, near[at]
        wavering = [
            each.id
            for place, each in enumerate(near)
            if place not in (at - 1, at) and self.is_bad(each) is (place < at)
        ]
        return Bisection(
            bad=bad,
            good=good,
            wavering=wavering,
            diff=self._diff(_FIRST if good is None else good.id, bad.id),
            loads=self._loads,
        )

    def _load(self, until: str | None, limit: int) -> list[Checkpoint]:
        page = self._client.checkpoint_page(self._id, until=until, limit=limit, states=True)
        self._loads += 1
        return [self._whole(checkpoint) for checkpoint in page.items]

    def _whole(self, checkpoint: Checkpoint) -> Checkpoint:
        if not checkpoint.state_left_out:
            return checkpoint
        self._loads += 1
        return self._client.get_checkpoint(self._id, checkpoint.id)

    def _diff(self, before: str, after: str) -> Diff | None:
        try:
            return self._client.diff(self._id, before, after)
        except Invalid as refused:
            if refused.code != "diff_too_large":
                raise
            return None


def _number(checkpoint_id: str) -> int:
    return int(checkpoint_id.removeprefix("ckpt_"))


def _id(number: int) -> str:
    return f"ckpt_{number:06d}"
