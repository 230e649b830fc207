"""`export` refuses what it can't do before it writes anything."""

import pytest

from running import Run


@pytest.mark.parametrize("path", ["state/email", "/email", ""])
def test_a_path_that_names_nothing_of_an_execution_is_a_usage_error(run: Run, path: str) -> None:
    code, out, err = run("export", "exec_0123456789abcdef0123456789abcdef", "--redact", path)

    assert (code, out) == (2, "")
    assert "--redact" in err
    assert "/state, /results, /result, /parameters" in err
