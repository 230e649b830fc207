"""Short ids: the first digits of an execution's id, as tables show and commands take them."""

import re
from itertools import islice
from typing import TYPE_CHECKING

from prefect_executions.cli.exits import MISSING, USAGE, end
from prefect_executions.cli.output import harmless
from prefect_executions.ids import canonical

if TYPE_CHECKING:
    from prefect_executions.client import Client

ENOUGH = 8  # digits that a command takes
LOOKED_AT = 1_000  # executions that a short id is looked for among: five requests
NAMED = 10  # candidates that an error names

_SHORT = re.compile(r"exec_([0-9a-f]{1,31})")


def whole(client: "Client", given: str) -> str:
    """The id that a user means; or end the command, if it may be several or none.

    A whole id costs no request. A short one is looked for among the newest 1,000 executions, as
    Prefect can't search by a part of an id.

    Args:
        client: The client.
        given: An id, or its first digits, at least eight.
    """
    short = given.lower().replace("-", "")
    if not (match := _SHORT.fullmatch(short)):
        return canonical(given)
    if len(match[1]) < ENOUGH:
        end(USAGE, f"{given}: give {ENOUGH} digits of the id at least.")
    found = [item for item in islice(client.list(), LOOKED_AT) if item.id.startswith(short)]
    if not found:
        end(
            MISSING,
            f"None of the newest {LOOKED_AT:,} executions has an id that begins with {given}; "
            "of an older one give the whole id.",
        )
    if len(found) > 1:
        named = [f"{item.id} {harmless(item.name)}, {item.status}" for item in found[:NAMED]]
        more = [f"and {len(found) - NAMED} more"] if len(found) > NAMED else []
        lines = "\n".join([*named, *more])
        end(USAGE, f"{given} may be one of {len(found)} executions; give more digits:\n{lines}")
    return found[0].id
