"""Saving checkpoints over REST."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from prefect_executions.blocks.key import SETTINGS
from prefect_executions.executions.reader import DIFF_BYTES
from prefect_executions.executions.views import STATES_BYTES
from rest import assert_field, assert_problem, path


def test_checkpoints_are_saved_by_hand_and_listed_newest_first(
    execution: dict[str, Any], rest: TestClient
) -> None:
    for n in range(3):
        answer = rest.put(
            path(execution, "/checkpoint"), json={"state": {"n": n}, "label": f"number {n}"}
        )
        assert answer.status_code == 201
        assert answer.json()["status"] == "running"
        assert answer.json()["checkpoint"]["id"] == f"ckpt_{n + 1:06d}"

    got = rest.get(path(execution)).json()

    assert got["state"] == {"n": 2}
    assert [(c["id"], c["label"], c["state"]) for c in got["checkpoints"]] == [
        ("ckpt_000003", "number 2", {"n": 2}),
        ("ckpt_000002", "number 1", {"n": 1}),
        ("ckpt_000001", "number 0", {"n": 0}),
    ]
    assert [c["size"] for c in got["checkpoints"]] == [len(b'{"n":0}')] * 3


def test_an_answer_has_so_many_bytes_of_states(execution: dict[str, Any], rest: TestClient) -> None:
    """The newest come first; where the others are is said."""
    served: Any = rest.app
    for n in range(4):
        state = {"n": n, "text": "x" * (STATES_BYTES // 3)}
        served.state.executions.checkpoint(execution["id"], state=state)  # larger than a request

    got = rest.get(path(execution)).json()["checkpoints"]
    listed = rest.get(path(execution, "/checkpoints?states=true")).json()["items"]
    without = rest.get(path(execution, "?states=false")).json()["checkpoints"]

    for told in (got, listed):
        assert [each["state_left_out"] for each in told] == [False, False, True, True]
        assert [each["state"] and each["state"]["n"] for each in told] == [3, 2, None, None]
    assert not any(each["state_left_out"] for each in without)
    left_out = rest.get(path(execution, f"/checkpoints/{got[3]['id']}")).json()
    assert (left_out["state"]["n"], left_out["state_left_out"]) == (0, False)


def test_a_diff_of_large_states_is_refused(execution: dict[str, Any], rest: TestClient) -> None:
    served: Any = rest.app
    small, large, other = (
        served.state.executions.checkpoint(execution["id"], state="x" * size).checkpoint.id
        for size in (1, DIFF_BYTES - 10, 20)
    )

    assert rest.get(path(execution, f"/checkpoints/{small}/diff/{large}")).status_code == 200
    refused = rest.get(path(execution, f"/checkpoints/{large}/diff/{other}"))
    assert_problem(refused, 422, "diff_too_large")
    assert f"at most {DIFF_BYTES}" in refused.json()["detail"]


def test_a_checkpoint_by_hand_names_its_key(execution: dict[str, Any], rest: TestClient) -> None:
    saved = rest.put(path(execution, "/checkpoint"), json={"state": 1}).json()["checkpoint"]
    listed = rest.get(path(execution, "/checkpoints")).json()["items"]

    assert [saved["saved_by"], listed[0]["saved_by"]] == [SETTINGS.name] * 2


def test_a_correction_is_saved_only_after_what_it_corrects(
    execution: dict[str, Any], rest: TestClient
) -> None:
    assert execution["continues_from"] == "ckpt_000000"
    first = {"state": 1, "after": execution["continues_from"]}
    assert rest.put(path(execution, "/checkpoint"), json=first).status_code == 201
    assert rest.get(path(execution)).json()["continues_from"] == "ckpt_000001"

    late = rest.put(path(execution, "/checkpoint"), json={**first, "state": "late"})
    unknown = rest.put(path(execution, "/checkpoint"), json={"state": 1, "after": "the newest"})

    assert_problem(late, 409, "status_conflict")
    assert "newest one is now ckpt_000001, not ckpt_000000" in late.json()["detail"]
    assert_field(unknown, "request_invalid", "after")
    got = rest.get(path(execution)).json()
    assert (got["state"], len(got["checkpoints"])) == (1, 1)


@pytest.mark.parametrize(
    "label", ["", "x" * 201, "a\0b", "one\ntwo", "\x1b[31m", "\u2028"], ids=ascii
)
def test_a_label_is_a_single_line(execution: dict[str, Any], rest: TestClient, label: str) -> None:
    answer = rest.put(path(execution, "/checkpoint"), json={"state": 1, "label": label})

    assert_field(answer, "request_invalid", "label")
    assert rest.get(path(execution)).json() == execution


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"state": {"scores": [1, NaN]}}', "state.scores[1]"),
        ('{"state": {"far": 1e999}}', "state.far"),
        ('{"state": {"a": "\\ud800"}}', "state.a"),
        ('{"state": 123456789012345678901}', "state"),
        (f'{{"state": {"[" * 300}{"]" * 300}}}', "state" + "[0]" * 31 + "[0…"),
    ],
    ids=["NaN", "infinity", "surrogate", "long integer", "deep"],
)
def test_a_state_that_can_not_be_kept_is_refused_with_its_path(
    execution: dict[str, Any], rest: TestClient, body: str, field: str
) -> None:
    answer = rest.put(
        path(execution, "/checkpoint"),
        content=body,
        headers={"content-type": "application/json"},
    )

    assert_field(answer, "state_invalid", field)
    assert rest.get(path(execution)).json() == execution


@pytest.mark.parametrize("body", ["", "{", "nonsense", "[1]", '"text"', "\x00", "{}"])
def test_bad_json_is_422(execution: dict[str, Any], rest: TestClient, body: str) -> None:
    answer = rest.put(
        path(execution, "/checkpoint"),
        content=body,
        headers={"content-type": "application/json"},
    )

    assert_problem(answer, 422, "request_invalid")


def test_bytes_that_are_no_text_are_refused(execution: dict[str, Any], rest: TestClient) -> None:
    answer = rest.put(
        path(execution, "/checkpoint"),
        content=b'{"state": "\xff"}',
        headers={"content-type": "application/json"},
    )

    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
