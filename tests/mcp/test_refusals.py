"""Every code of the service has a word that says what to do."""

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from prefect_executions.client import NotFound
from prefect_executions.errors import StateError
from prefect_executions.mcp.refusals import HINTS, refusals
from prefect_executions.service.responses import CODES


def test_every_code_says_what_to_do() -> None:
    assert set(HINTS) == {*CODES, "no_answer"}


def test_a_refusal_is_the_error_of_a_tool() -> None:
    with pytest.raises(ToolError) as caught, refusals():
        raise NotFound(404, "execution_not_found", "There is no execution.")

    assert f"{caught.value}" == (
        "There is no execution. list_executions shows those that this key may see."
    )


def test_a_code_that_is_new_is_a_case_for_people() -> None:
    with pytest.raises(ToolError, match=r"No\. Ask the person"), refusals():
        raise NotFound(404, "something_new", "No.")


def test_a_value_that_json_can_t_keep_is_refused_by_its_path() -> None:
    with pytest.raises(ToolError, match=r"state\.n: is too large"), refusals():
        raise StateError("state.n", "is too large")
