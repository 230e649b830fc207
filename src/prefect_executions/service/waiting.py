"""`Prefer: wait=N` (RFC 7240): an answer that may wait for what was asked to have happened."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Header, Response

from prefect_executions.errors import PrefectUnavailable, StoreUnavailable

LONGEST = 60.0  # seconds
_PAUSE = 0.25  # seconds between two looks
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,6})"?\s*(?=$|[,;])', re.IGNORECASE)


class Patience:
    """How long a caller would wait for what it asks for.

    Args:
        seconds: So long; None: the caller did not say.
        response: Tells the caller that it was heard.
    """

    def __init__(self, seconds: float | None, response: Response) -> None:
        self.seconds = seconds
        if seconds is not None:
            response.headers["Preference-Applied"] = f"wait={seconds:g}"

    async def until(self, holds: Callable[[], bool], *, default: float | None = None) -> bool:
        """Wait for something that blocks when it is asked; whether it has come to hold.

        A store or a Prefect that is away meanwhile does not make undone what was asked for.

        Args:
            holds: Whether it does.
            default: How long to wait where the caller did not say, in seconds; None: not at all.
        """
        seconds = default if self.seconds is None else self.seconds
        if seconds is None:
            return False
        deadline = monotonic() + seconds
        while True:
            with suppress(PrefectUnavailable, StoreUnavailable):
                if await to_thread.run_sync(holds):
                    return True
            if monotonic() >= deadline:
                return False
            await asyncio.sleep(_PAUSE)


async def _preferred(
    response: Response,
    prefer: Annotated[
        str | None,
        Header(
            description=f"`wait=N`: answer when it has happened, after N seconds ({LONGEST:g} at "
            "most) in any case.",
            examples=["wait=10"],
        ),
    ] = None,
) -> Patience:
    match = _WAIT.search(prefer or "")
    return Patience(min(float(match[1]), LONGEST) if match else None, response)


Wait = Annotated[Patience, Depends(_preferred)]
