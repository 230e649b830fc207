"""The inspector's pages without a browser: access, content, actions."""

from html import escape
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient

from html_pages import REST, Seen, log_in
from prefect_executions.blocks.key import Permission, create_key, revoke_key
from prefect_executions.service.app import Limits
from prefect_executions.storage.objects import MemoryObjects
from rest import KEY, opened

NASTY = '<script>alert("x")</script>'


@pytest.fixture
def execution(browser: TestClient) -> dict[str, Any]:
    """An execution with two checkpoints, and names that contain HTML."""
    body = {"name": NASTY, "agent_id": "mine", "description": NASTY}
    made: dict[str, Any] = browser.post("/v1/execution", json=body, headers=REST).json()
    for n in (1, 2):
        body = {"state": {"n": n, "text": NASTY}, "label": f"{NASTY} {n}"}
        browser.put(f"/v1/execution/{made['id']}/checkpoint", json=body, headers=REST)
    return made


def pages(execution: dict[str, Any]) -> list[str]:
    one = f"/ui/{execution['id']}"
    return [
        "/ui/",
        one,
        f"{one}/ckpt_000003",
        f"{one}/diff?from=ckpt_000002&to=ckpt_000003",
        f"{one}/ckpt_000002/roll-back",
        f"{one}/fork?checkpoint=ckpt_000002",
        f"{one}?tab=state",
        f"{one}?tab=checkpoints",
        f"{one}?tab=result",
        f"{one}?tab=parameters",
        f"{one}?tab=config",
        f"{one}?tab=versions",
        f"{one}/edit",
        f"/ui/compare?ids={execution['id']}",
        f"{one}?kind=checkpoint",
        f"{one}/delete",
    ]


# ------------------------------------------------------------------ who gets in


def test_without_a_key_every_page_asks_for_one(
    browser: TestClient, execution: dict[str, Any]
) -> None:
    for path in [*pages(execution), f"/ui/{execution['id']}/ckpt_000002/state.json", "/ui/no/no"]:
        answer = browser.get(path)

        assert answer.status_code == 401, path
        assert "A key, please" in answer.text
        assert NASTY not in answer.text
        asked = path if "compare" in path else path.split("?")[0]
        assert execution["id"] not in answer.text.replace(asked, "")


def test_the_login_leads_to_what_was_asked_for(
    browser: TestClient, execution: dict[str, Any]
) -> None:
    there = f"/ui/{execution['id']}/diff?from=ckpt_000000&to=ckpt_000000"
    form = browser.get(there).text

    assert f'value="{escape(there)}"' in form
    answer = browser.post("/ui/login", data={"key": KEY, "next": there}, follow_redirects=False)
    assert answer.headers["location"] == there


def test_a_wrong_key_is_told_so_and_a_right_one_leads_on(
    browser: TestClient, execution: dict[str, Any]
) -> None:
    log_in(browser, "wrong")
    refused = browser.get("/ui/")
    there = f"/ui/{execution['id']}"
    answer = browser.post(
        "/ui/login", data={"key": f" {KEY} ", "next": there}, follow_redirects=False
    )

    assert "That key is not known here" in refused.text
    assert answer.headers["location"] == there
    assert browser.get(there).status_code == 200


@pytest.mark.parametrize(
    "there", ["https://evil.example/ui/", "//evil.example/ui/", "//[", "/v1/", "/uix"]
)
def test_the_login_leads_nowhere_else(browser: TestClient, there: str) -> None:
    data = {"key": KEY, "next": there}

    answer = browser.post("/ui/login", data=data, follow_redirects=False)

    assert answer.headers["location"] == "/ui"


def test_the_cookie_is_for_these_pages_alone(browser: TestClient) -> None:
    answer = browser.post("/ui/login", data={"key": KEY}, follow_redirects=False)

    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "Path=/ui", "SameSite=strict"} <= set(cookie.split("; "))
    assert "Max-Age" not in cookie
    cookie = f"executions_key={quote(KEY)}"
    assert browser.get("/v1/execution", headers={"Cookie": cookie}).status_code == 401


def test_over_https_it_stays_there(browser: TestClient) -> None:
    answer = browser.post("https://testserver/ui/login", data={"key": KEY}, follow_redirects=False)

    assert "Secure" in answer.headers["set-cookie"]


def test_a_key_can_be_forgotten(inside: TestClient) -> None:
    assert inside.get("/ui/").status_code == 200

    inside.post("/ui/logout")

    assert inside.get("/ui/").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
def test_another_site_can_change_nothing(
    inside: TestClient, execution: dict[str, Any], headers: dict[str, str]
) -> None:
    answer = inside.post(f"/ui/{execution['id']}/pause", headers=headers)

    assert answer.status_code == 403
    assert status_of(inside, execution) == "running"


def test_an_endless_form_is_refused(browser: TestClient) -> None:
    assert browser.post("/ui/login", data={"key": "k" * 10_000}).status_code == 413


def test_wrong_keys_are_limited_here_too(prefect: SyncPrefectClient) -> None:
    with opened(prefect, MemoryObjects(), limits=Limits(failures="3/day")) as client:
        del client.headers["Authorization"]
        log_in(client, "wrong")
        answers = [client.get("/ui/").status_code for _ in range(5)]

    assert answers == [401, 401, 401, 429, 429]


# ------------------------------------------------------------------ what they tell


def test_no_page_runs_what_somebody_has_named(
    inside: TestClient, execution: dict[str, Any]
) -> None:
    for path in pages(execution):
        answer = inside.get(path)
        seen = Seen(answer.text)

        assert answer.status_code == 200, path
        assert NASTY not in answer.text
        assert seen.tags.count("script") == 1
        assert not seen.styled, "the policy lets no style and no handler stand in the page"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert {link.split("/")[1] for link in seen.loads} == {"ui"}, "nothing is from elsewhere"


def test_what_a_page_needs_is_there(inside: TestClient, execution: dict[str, Any]) -> None:
    for path in pages(execution):
        seen = Seen(inside.get(path).text)
        for link in [*seen.links, *seen.loads]:
            if not link.startswith(("#", "http")):
                assert inside.get(link).status_code == 200, link


def test_the_list_can_be_narrowed(inside: TestClient, execution: dict[str, Any]) -> None:
    all_of_them = inside.get("/ui/").text
    others = inside.get("/ui/", params={"status": "failed", "name": "", "agent_id": ""}).text
    refused = inside.get("/ui/", params={"status": "odd"})

    assert execution["id"] in all_of_them
    assert "There are none like that" in others
    assert refused.status_code == 422
    assert "status" in refused.text


def test_a_page_that_is_not_there_says_so(inside: TestClient, execution: dict[str, Any]) -> None:
    missing = [f"/ui/exec_{uuid4().hex}", f"/ui/{execution['id']}/ckpt_000099", "/ui/x/y/z"]

    for path in missing:
        answer = inside.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"].startswith("text/html")


def test_states_can_be_compared_and_downloaded(
    inside: TestClient, execution: dict[str, Any]
) -> None:
    one = f"/ui/{execution['id']}"

    diff = inside.get(f"{one}/diff", params={"from": "ckpt_000002", "to": "ckpt_000003"}).text
    same = inside.get(f"{one}/diff", params={"from": "ckpt_000002", "to": "ckpt_000002"}).text
    state = inside.get(f"{one}/ckpt_000003/state.json")

    assert '<span class="old">-  &#34;n&#34;: 1,' in diff
    assert '<span class="new">+  &#34;n&#34;: 2,' in diff
    assert "The states are the same" in same
    assert state.json() == {"n": 2, "text": NASTY}
    assert state.headers["content-disposition"] == 'attachment; filename="ckpt_000003.json"'


def test_a_state_that_is_large_is_cut(inside: TestClient) -> None:
    made = inside.post("/v1/execution", json={"name": "large"}, headers=REST).json()
    body = {"state": {"text": ["x" * 100] * 10_000}}
    inside.put(f"/v1/execution/{made['id']}/checkpoint", json=body, headers=REST)

    shown = inside.get(f"/ui/{made['id']}", params={"tab": "state"}).text

    assert len(shown) < 200_000
    assert f"/ui/{made['id']}/ckpt_000002/state.json" in shown


# ------------------------------------------------------------------ what they change


def status_of(browser: TestClient, execution: dict[str, Any]) -> str:
    found: str = browser.get(f"/v1/execution/{execution['id']}", headers=REST).json()["status"]
    return found


def test_pause_roll_back_and_delete(inside: TestClient, execution: dict[str, Any]) -> None:
    one = f"/ui/{execution['id']}"
    posts = Seen(inside.get(one).text).posts
    assert posts == ["/ui/logout", f"{one}/pause", f"{one}/cancel"]

    inside.post(f"{one}/pause")
    assert status_of(inside, execution) == "paused"
    back = f"{one}/ckpt_000002/roll-back"
    assert back in Seen(inside.get(f"{one}/ckpt_000002").text).links
    assert back in Seen(inside.get(back).text).posts

    inside.post(back)
    now = inside.get(f"/v1/execution/{execution['id']}", headers=REST).json()
    assert (now["status"], now["state"]["n"]) == ("running", 1)

    inside.post(f"{one}/delete")
    assert inside.get(one).status_code == 404


def test_what_is_not_possible_is_said(inside: TestClient, execution: dict[str, Any]) -> None:
    answer = inside.post(f"/ui/{execution['id']}/resume")

    assert answer.status_code == 409
    assert "it is running" in answer.text


def test_a_key_may_do_here_what_it_may_do_elsewhere(
    browser: TestClient, execution: dict[str, Any], prefect: SyncPrefectClient
) -> None:
    names = [f"key-{uuid4().hex}" for _ in range(2)]
    reader = create_key(prefect, names[0], permissions=[Permission.READ])
    other = create_key(prefect, names[1], permissions=[*Permission], agents=["another"])
    one = f"/ui/{execution['id']}"
    try:
        log_in(browser, reader)
        seen = Seen(browser.get(one).text)
        changed = [browser.post(f"{one}/{act}").status_code for act in ("pause", "delete")]
        log_in(browser, other)
        hidden = [browser.get(one).status_code, browser.post(f"{one}/pause").status_code]
        listed = browser.get("/ui/").text
    finally:
        for name in names:
            revoke_key(prefect, name)

    assert seen.posts == ["/ui/logout"]
    assert f"{one}/delete" not in seen.links
    assert changed == [403, 403]
    assert hidden == [404, 404]
    assert execution["id"] not in listed
