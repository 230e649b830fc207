"""Commands for executions and their checkpoints."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from prefect_executions.config import ExecutionConfig
from processes import started
from rest import KEY
from running import Run, json_of, words


def test_a_life(run: Run, url: str, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text('{"n": 2}')
    made = json_of(run, "create", "a [task]", "--agent-id", "me", "--state", '{"n": 0}')
    id_ = made["id"]
    first = json_of(run, "checkpoint", id_, '{"n": 1}', "--label", "one", "--attempt", "1")
    one = first["checkpoint"]["id"]
    assert "saved; the execution is running" in words(run, "checkpoint", id_, f"@{state}")
    assert json_of(run, "state", id_) == {"n": 2}
    assert json_of(run, "state", id_, one) == {"n": 1}
    assert '"n": 2' in words(run, "state", id_)
    points = json_of(run, "checkpoints", id_)
    assert [point["label"] for point in points] == [None, "one"]
    assert "one" in words(run, "checkpoints", id_, "--limit", "2")
    two = points[0]["id"]
    assert json_of(run, "diff", id_, one, two)["patch"][0]["value"] == 2
    assert '"op": "replace"' in words(run, "diff", id_, one, two)
    assert words(run, "diff", id_, one, one) == "Nothing has changed.\n"
    assert f"{id_} is paused." in words(run, "pause", id_, "--reason", "look", "--wait", "0")
    shown = words(run, "get", id_)
    assert "a [task]" in shown  # no markup
    assert "look" in shown
    assert f"{id_} is running." in words(run, "resume", id_, "--checkpoint-id", one)
    assert f"{id_} is terminated." in words(run, "cancel", id_)
    assert f"{id_} is running." in words(run, "resume", id_)
    assert json_of(run, "fork", id_, "--name", "b")["forked_from"]["execution_id"] == id_
    assert [item["name"] for item in json_of(run, "list", "--agent-id", "me")] == ["b", "a [task]"]
    assert [item["name"] for item in json_of(run, "list", "--limit", "1")] == ["b"]
    assert json_of(run, "list", "--status", "failed") == []
    assert words(run, "list", "--status", "failed") == "None.\n"
    assert "a [task]" in words(run, "list")
    assert "PUTs" in words(run, "cost", id_)
    assert "2 are meant; give --yes to pause them." in words(run, "bulk", "pause", "--all")
    done = json_of(run, "bulk", "pause", "--agent-id", "me", "--yes")
    assert [item["status"] for item in done] == ["paused", "paused"]
    assert json_of(run, "delete", id_) == {"id": id_, "gone": True}
    assert run("get", id_)[0] == 3


def test_who_creates_without_a_deployment_is_told_how_to_go_on(run: Run, url: str) -> None:
    told = " ".join(words(run, "create", "a").split())

    assert "runs on nobody yet" in told
    assert "PUT …/exec_" in told


def test_bulk_with_failures_is_no_success(run: Run, url: str) -> None:
    id_ = json_of(run, "create", "a")["id"]
    json_of(run, "pause", id_)

    code, out, _ = run("bulk", "resume", "--all", "--yes")
    assert (code, "done" in out) == (0, True)
    code, out, _ = run("bulk", "resume", "--all", "--yes")

    assert code == 1
    assert "it is running" in out


def test_texts_of_users_are_printed_as_they_are(run: Run, url: str) -> None:
    """As neither markup nor control characters."""
    said = "[error] see [/docs] :warning:"
    state = json.dumps({"log": said})
    id_ = json_of(run, "create", f"a {said} \x1b]0;b\x07", "--state", state)["id"]

    assert f'"log": "{said}"' in words(run, "state", id_)
    for command in ("get", "list"):
        out = words(run, command, *([id_] if command == "get" else []))
        assert said in out
        assert "\x1b" not in out
    env = {**os.environ, "PREFECT_EXECUTIONS_URL": url, "PREFECT_EXECUTIONS_API_KEY": KEY}
    with started(sys.executable, "-m", "prefect_executions.cli", "watch", id_, env=env) as watching:
        assert watching.stdout is not None
        assert "running" in watching.stdout.readline()
        json_of(run, "checkpoint", id_, state, "--label", said)
        saved = watching.stdout.readline()
        json_of(run, "delete", id_)
        rest = watching.stdout.read()
        code = watching.wait()

    assert said in saved
    assert (code, "Traceback" in rest) == (1, False)


@pytest.mark.parametrize("value", ["NaN", '{"a": -Infinity}', "1e999", '"\\ud800"'])
def test_what_is_no_json_is_wrong_usage(run: Run, value: str) -> None:
    code, out, err = run("create", "a", "--state", value, "--url", "http://127.0.0.1:9")

    assert (code, out) == (2, "")
    assert err.startswith(("--state: ", "state"))


def test_bulk_wants_a_filter_or_all(run: Run, url: str) -> None:
    for command in (("delete", "--yes"), ("delete", "--all", "--name", "a", "--yes")):
        code, out, err = run("bulk", *command)
        assert (code, out) == (2, ""), err
    made = json_of(run, "create", "a", "--task-type", "x")
    later = "2100-01-01"
    assert json_of(run, "bulk", "pause", "--created-after", later) == []
    (done,) = json_of(run, "bulk", "pause", "--task-type", "x", "--reason", "to look", "--yes")
    assert done["id"] == made["id"]
    assert json_of(run, "get", made["id"])["prefect"]["message"] == "to look"
    assert [item["id"] for item in json_of(run, "list", "--order", "asc", "--limit", "0")] != []


def test_a_repetition_with_the_same_key_creates_nothing(run: Run, url: str) -> None:
    command = ("create", "once", "--idempotency-key", "k")

    assert json_of(run, *command)["id"] == json_of(run, *command)["id"]


def test_in_a_pipe_a_row_is_a_line_with_tabs(run: Run, url: str, monkeypatch: Any) -> None:
    made = json_of(run, "create", "a name\tof two\nlines")
    monkeypatch.setenv("COLUMNS", "40")

    (row,) = words(run, "list").splitlines()

    assert row.split("\t")[:3] == [made["id"], "a name of two lines", "running"]


def test_a_wrong_setting_is_wrong_usage(run: Run) -> None:
    code, _, err = run("create", "a", "--max-retries=-1")

    assert (code, err) == (2, "--max-retries: Input should be greater than or equal to 0\n")


def test_every_setting_has_an_option(run: Run, url: str) -> None:
    given = {
        "max_duration_seconds": 3600.0,
        "checkpoint_interval_seconds": 60.0,
        "max_retries": 3,
        "retry_delay_seconds": 1.5,
        "keep_checkpoints": 100,
        "keep_labelled": True,
        "delete_after_seconds": 86400.0,
    }
    assert given.keys() == ExecutionConfig.model_fields.keys()
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]

    made = json_of(run, "create", "configured", *options)

    assert made["config"] == given


def test_a_state_is_corrected_in_an_editor_and_says_who_and_why(
    run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = json_of(run, "create", "a", "--state", '{"n": 1, "done": ["x"]}')["id"]
    editor = tmp_path / "editor.py"
    monkeypatch.setenv("EDITOR", f"{sys.executable} {editor}")
    monkeypatch.delenv("VISUAL", raising=False)
    head = "import sys\nfrom pathlib import Path\nfile = Path(sys.argv[-1])\n"
    change = "file.write_text(file.read_text().replace('\"n\": 1', '\"n\": 7'))\n"
    editor.write_text(head + change)

    assert "pause it first" in run("edit", id_)[2]
    words(run, "pause", id_)
    told = words(run, "edit", id_, "--reason", "n was wrong", "--label", "mended")
    point = json_of(run, "checkpoints", id_)[0]

    assert "saved; the execution is paused" in told
    assert json_of(run, "state", id_) == {"n": 7, "done": ["x"]}
    assert (point["label"], point["reason"]) == ("mended", "n was wrong")
    assert point["saved_by"] is not None
    assert words(run, "edit", id_) == "Nothing was changed, and nothing was saved.\n"
    editor.write_text(head + "file.write_text('{')\n")
    assert run("edit", id_)[0] == 2
    editor.write_text("raise SystemExit(3)")
    assert "ended with 3; nothing was saved" in run("edit", id_)[2]
    monkeypatch.setenv("EDITOR", "no-such-editor")
    assert "name your editor in EDITOR" in run("edit", id_)[2]
    save = [sys.executable, "-m", "prefect_executions.cli", "checkpoint", id_, "{}"]
    other = f"file.write_text('[]')\nimport subprocess\nsubprocess.run({save!r}, check=True)\n"
    editor.write_text(head + other)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {editor}")
    code, _, err = run("edit", id_)
    assert code == 1
    assert "What you have written is in " in err
    assert "newest one is now ckpt_000003, not ckpt_000002" in err
    assert json_of(run, "state", id_) == {}
    assert len(json_of(run, "checkpoints", id_)) == 2
