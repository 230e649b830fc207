"""What a person sees at a terminal of 80 columns, and is asked there."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from prefect_executions.cli import output
from prefect_executions.cli.output import ago, shortened, when
from running import Run, json_of, words
from terminals import Terminal, seen

LONG = "a survey of what was published on checkpoints of long-running agents since 1998"


def test_a_table_fits_80_columns_and_has_short_ids_and_relative_times(run: Run, url: str) -> None:
    ids = [
        json_of(run, "create", f"{LONG}, {n}", "--agent-id", "an-agent-of-a-long-name")["id"]
        for n in range(3)
    ]

    table = seen("list")

    lines = table.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["ID", "NAME", "STATUS", "AGENT", "CREATED"]
    for id_ in ids:
        assert id_ not in table
        [row] = [line for line in lines if line.startswith("exec_") and id_.startswith(line[:17])]
        assert "running" in row
        assert "second" in row or row.rstrip().endswith("now")
    piped = words(run, "list").splitlines()
    assert [row.split("\t")[0] for row in piped] == ids[::-1]
    assert all(datetime.fromisoformat(row.split("\t")[-1]).tzinfo for row in piped)
    assert {item["id"] for item in json.loads(seen("list", "--json"))} == set(ids)


def test_the_other_tables_fit_80_columns(run: Run, url: str) -> None:
    id_ = json_of(run, "create", LONG, "--agent-id", "me", "--state", json.dumps([LONG] * 9))["id"]
    json_of(run, "checkpoint", id_, "1", "--label", LONG)

    for command in (("checkpoints", id_), ("get", id_), ("bulk", "pause", "--all", "--yes")):
        lines = seen(*command).splitlines()
        assert max(map(len, lines)) <= 80, command
    assert id_ in seen("get", id_)  # whole, where it is alone


def test_the_ids_in_a_table_are_as_long_as_tells_them_apart() -> None:
    one, other = f"exec_0192f0c1a6b8{'7' * 20}", f"exec_0192f0c1a6b8{'7' * 3}a{'7' * 16}"

    assert shortened([one]) == {one: "exec_0192f0c1a6b8"}
    assert shortened([one, other]) == {
        one: "exec_0192f0c1a6b87777",
        other: "exec_0192f0c1a6b8777a",
    }
    assert shortened([one, one]) == {one: "exec_0192f0c1a6b8"}
    assert shortened([]) == {}


def test_other_ids_in_a_table_are_whole() -> None:
    """No command takes a part of them."""
    ids = ["ckpt_000042", f"evt_{'a' * 32}", f"evt_{'a' * 31}b"]

    assert shortened(ids) == {id_: id_ for id_ in ids}


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (timedelta(seconds=5), "5 seconds ago"),
        (timedelta(hours=30), "a day ago"),
        (timedelta(days=-3, seconds=-9), "3 days from now"),
    ],
)
def test_times_are_said_as_people_say_them(before: timedelta, said: str) -> None:
    assert ago(datetime.now(UTC) - before) == said


def test_for_programs_a_time_is_absolute_and_in_utc() -> None:
    at = datetime.fromisoformat("2026-11-24T12:00:07.250+02:00")

    assert when(at) == "2026-11-24T10:00:07Z"


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"], ids=["no", "nothing", "end"])
def test_at_a_terminal_nothing_is_deleted_without_a_yes(run: Run, url: str, answer: str) -> None:
    id_ = json_of(run, "create", "precious")["id"]

    with Terminal("delete", id_) as terminal:
        terminal.until("Delete precious, which is running, and all of its states?")
        terminal.type(answer)
        code = terminal.end()

    assert code == 1
    assert "Nothing was deleted." in terminal.said
    assert json_of(run, "get", id_)["status"] == "running"


def test_at_a_terminal_a_yes_deletes(run: Run, url: str) -> None:
    asked, unasked = (json_of(run, "create", "old")["id"] for _ in range(2))

    with Terminal("delete", asked) as terminal:
        terminal.until("[y/n]")
        terminal.type("y\n")
        assert terminal.end() == 0
    assert seen("delete", unasked, "--yes") == f"{unasked} is deleted.\n"

    assert json_of(run, "list") == []


def test_without_a_terminal_it_does_not_ask(run: Run, url: str) -> None:
    id_ = json_of(run, "create", "old")["id"]

    assert words(run, "delete", id_) == f"{id_} is deleted.\n"


def test_a_long_list_shows_how_far_it_is(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, from the second page on; not where it is short, and not in a pipe."""
    for n in range(5):
        json_of(run, "create", f"{n}")
    assert "so far" not in seen("list", "--limit", "0")
    monkeypatch.setattr(output, "MANY", 2)
    assert run("list", "--limit", "0")[2] == ""

    monkeypatch.setenv("FORCE_COLOR", "1")  # as at a terminal
    code, out, err = run("list", "--limit", "0")

    assert code == 0
    assert "4 executions so far" in err
    assert "so far" not in out
