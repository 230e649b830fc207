"""Questions that are answered in the inspector, as a browser without JavaScript does."""

from datetime import UTC, date, datetime
from enum import Enum
from html import unescape
from typing import Any, Literal

import pytest
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient
from pydantic import BaseModel, Field

from html_pages import REST, Seen, log_in
from office import Office
from prefect_executions.approvals import ToolApproval
from prefect_executions.blocks.key import Permission
from prefect_executions.ids import flow_run_id
from prefect_executions.log.journal import Outcome, Record
from prefect_executions.prefect.pauses import answerer, read_answer


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    street: str
    number: int = Field(1, ge=1, description="Of the house.")


class Everything(BaseModel):
    """A model with a field of each kind."""

    text: str
    note: str = "as ever"
    whole: int = Field(ge=0, le=10)
    share: float = 0.5
    sure: bool
    unsure: bool | None = None
    colour: Colour = Colour.RED
    tone: Literal["plain", "warm"] | None = None
    level: Literal[1, 2, 3, 4, 5] = 3
    day: date | None = None
    moment: datetime | None = None
    words: list[str] = []
    numbers: list[int] = Field(default=[7, 8])
    colours: list[Colour] = []
    place: Place
    spare: Place | None = None
    places: list[Place] = []
    anything: dict[str, Any] = {}


FILLED = {
    "text": "two\r\nlines",
    "whole": "7",
    "sure": "false",
    "level": "4",
    "day": "2026-11-24",
    "moment": "2026-11-24T18:30",
    "words": "one\r\n\r\nit's two\r\n",
    "colours": ['"blue"', '"red"'],
    "place.street": "Long Street",
    "places.0.street": "",
    "places.1.street": "Short Street",
    "places.1.number": "2",
    "anything": '{"a": [1, "b"]}',
}


def ask(office: Office, model: type[BaseModel], prompt: str = "Go **on**?") -> tuple[str, str]:
    """An execution that asks; its page, and the key of its question."""
    id_ = office.create(state={"n": 1})
    return f"/ui/{id_}", office.ask(id_, model.model_json_schema(), prompt)


def form_of(reader: TestClient, page: str) -> dict[str, list[str]]:
    """What a browser would send of the form as it is shown, without any change."""
    return Seen(reader.get(page).text).form(f"{page}/answer#answer")


def send(reader: TestClient, page: str, **changed: str | list[str]) -> Any:
    """Fill the form in, and send it."""
    named = {f"answer.{name}": value for name, value in changed.items()}
    return reader.post(f"{page}/answer", data=form_of(reader, page) | named, follow_redirects=False)


def given(office: Office, page: str, key: str) -> Any:
    """The answer that Prefect keeps for the flow."""
    return read_answer(office.prefect, flow_run_id(page.removeprefix("/ui/")), key)


def test_a_field_of_each_kind_is_filled_in(reader: TestClient, office: Office) -> None:
    page, key = ask(office, Everything)

    answer = send(reader, page, **FILLED)

    assert (answer.status_code, answer.headers.get("location")) == (303, page), answer.text
    made = Everything.model_validate(given(office, page, key))
    assert made == Everything(
        text="two\nlines",
        whole=7,
        sure=False,
        level=4,
        day=date(2026, 11, 24),
        moment=datetime.fromisoformat("2026-11-24T18:30Z"),
        words=["one", "it's two"],
        numbers=[7, 8],
        colours=[Colour.BLUE, Colour.RED],
        place=Place(street="Long Street"),
        places=[Place(street="Short Street", number=2)],
        anything={"a": [1, "b"]},
    )


def test_the_answer_is_the_one_thing_to_do(reader: TestClient, office: Office) -> None:
    page, key = ask(office, ToolApproval, "May **the agent** call `<b>pay</b>`?")

    shown = reader.get(page).text

    assert "<strong>the agent</strong> call <code>&lt;b&gt;pay&lt;/b&gt;</code>" in shown
    assert '<a class="button primary" href="#answer">Answer</a>' in shown
    assert f"{page}/resume" not in Seen(shown).posts
    assert "needs an answer" in shown
    assert send(reader, page, approved="true").status_code == 303
    assert given(office, page, key) == {"approved": True}
    assert "needs an answer" not in reader.get(page).text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"text": " "}, "Give a value."),
        ({"whole": "seven"}, "Give a whole number."),
        ({"whole": "11"}, "11 is greater than the maximum of 10"),
        ({"share": "much"}, "Give a number."),
        ({"sure": []}, "Give a value."),
        ({"sure": "perhaps"}, "This is no JSON"),
        ({"colour": '"green"'}, "'green' is not one of ['red', 'blue']"),
        ({"day": "tomorrow"}, "Give a date, as in 2026-11-24."),
        ({"moment": "soon"}, "Give a date and a time"),
        ({"numbers": "1\r\ntwo"}, "Line 2: Give a whole number."),
        ({"place.street": ""}, "Give a value."),
        ({"place.number": "0"}, "0 is less than the minimum of 1"),
        ({"places.1.number": "0"}, "0 is less than the minimum of 1"),
        ({"anything": "{"}, "This is no JSON"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_the_rest_is_kept(
    reader: TestClient, office: Office, wrong: dict[str, Any], said: str
) -> None:
    page, key = ask(office, Everything)
    (name,) = wrong

    refused = send(reader, page, **{**FILLED, **wrong})

    assert refused.status_code == 422
    seen = Seen(refused.text)
    assert said in unescape(seen.text_of(f"answer.{name}-error"))
    assert f"#answer.{name}" in seen.links
    assert f"answer.{name}-error" in seen.described[f"answer.{name}"]
    kept = {name for name in FILLED if not name.startswith("places.0")} - wrong.keys()
    again = seen.form(f"{page}/answer#answer")
    for other in kept:
        wanted = FILLED[other] if isinstance(FILLED[other], list) else [FILLED[other]]
        shown = ["\r\n".join(value.splitlines()) for value in again[f"answer.{other}"]]
        assert sorted(shown) == sorted(value.removesuffix("\r\n") for value in wanted), other
    assert given(office, page, key) is None
    assert "data-follow" in reader.get(page).text
    assert "data-follow" not in refused.text, "the page would lose what was typed"


def test_a_prompt_leads_to_no_script(reader: TestClient, office: Office) -> None:
    prompt = "[a](javascript:alert(1)) <script>b</script> ![c](https://evil.example/c.png)"
    page, _ = ask(office, ToolApproval, prompt)

    seen = Seen(reader.get(page).text)

    assert seen.tags.count("script") == 1
    assert not [link for link in seen.links if "javascript" in link]
    assert not [link for link in seen.loads if "evil" in link], "a picture is no more than a link"


def test_a_list_of_objects_has_as_many_rows_as_are_asked_for(
    reader: TestClient, office: Office
) -> None:
    page, key = ask(office, Everything)
    sent = form_of(reader, page) | {"answer.text": "kept", "more": "answer.places"}

    more = Seen(reader.post(f"{page}/answer", data=sent).text).form(f"{page}/answer#answer")

    assert "answer.places.2.street" in more
    assert "answer.places.3.street" not in more
    assert more["answer.text"] == ["kept"]
    assert given(office, page, key) is None


def test_only_the_question_that_was_read_is_answered(reader: TestClient, office: Office) -> None:
    page, _ = ask(office, ToolApproval)
    old = form_of(reader, page) | {"answer.approved": "true"}
    key = office.ask(page.removeprefix("/ui/"), ToolApproval.model_json_schema(), "And now?")

    late = reader.post(f"{page}/answer", data=old)

    assert late.status_code == 409
    assert "That question is not asked any more" in late.text
    assert given(office, page, key) is None
    assert reader.get(f"{page}/answer").url.path == page


@pytest.mark.parametrize("over_rest", [False, True])
def test_the_journal_says_who_has_answered(
    reader: TestClient, office: Office, over_rest: bool
) -> None:
    page, key = ask(office, ToolApproval)
    id_ = page.removeprefix("/ui/")
    resume = f"/v1/execution/{id_}/resume"
    refused = reader.post(resume, json={"input": {"approved": "perhaps"}}, headers=REST)
    assert refused.status_code == 422
    assert answerer(office.prefect, flow_run_id(id_), key) is None

    if over_rest:
        reader.post(resume, json={"input": {"approved": True}}, headers=REST)
    else:
        send(reader, page, approved="true")

    log = office.executions.log(id_)  # as the flow does, once it goes on
    log.record(
        log.head(),
        [
            Record(
                order=1,
                parent=0,
                key="a key",
                step="ask ToolApproval",
                at=datetime.now(UTC),
                outcome=Outcome.DONE,
                pause_key=key,
                result=b'{"approved":true}',
            )
        ],
    )
    seen = Seen(reader.get(page).text)
    assert seen.titles[0] == "Answered: ToolApproval"
    assert "by settings" in reader.get(page).text


def test_who_may_not_write_may_not_answer(
    office: Office, reader: TestClient, prefect: SyncPrefectClient
) -> None:
    page, key = ask(office, ToolApproval)
    sent = form_of(reader, page) | {"answer.approved": "true"}
    log_in(reader, office.key(Permission.READ))

    shown = reader.get(page).text
    answer = reader.post(f"{page}/answer", data=sent)

    assert "Your key may not answer it." in shown
    assert f"{page}/answer#answer" not in Seen(shown).posts
    assert answer.status_code == 403
    assert given(office, page, key) is None


def test_another_site_can_answer_nothing(reader: TestClient, office: Office) -> None:
    page, key = ask(office, ToolApproval)
    sent = form_of(reader, page) | {"answer.approved": "true"}

    answer = reader.post(f"{page}/answer", data=sent, headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 403
    assert given(office, page, key) is None


class Tree(BaseModel):
    """A model that contains itself."""

    name: str
    below: list["Tree"] = []


def test_a_model_that_contains_itself_can_be_answered(reader: TestClient, office: Office) -> None:
    page, key = ask(office, Tree)

    answer = send(reader, page, name="root")

    assert answer.status_code == 303, answer.text
    assert Tree.model_validate(given(office, page, key)) == Tree(name="root")
    assert reader.get(f"/v1/execution{page[3:]}", headers=REST).json()["status"] == "running"
