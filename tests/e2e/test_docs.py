"""The code in the documents runs: Python, shell commands and configuration."""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from ipaddress import ip_network
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.settings import PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW, temporary_settings
from standardwebhooks import Webhook

import prefect_executions
from prefect_executions import errors, execution
from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.cli.app import app
from prefect_executions.cli.service import serve
from prefect_executions.client.profiles import find
from prefect_executions.ids import flow_run_id
from prefect_executions.local import Stack
from prefect_executions.settings import ExecutionsSettings
from prefect_executions.testkit import Trial
from prefect_executions.webhooks.message import message_of
from rest import KEY
from scripted_adk import Script as AdkScript
from scripted_adk import calls as adk_calls
from scripted_adk import says as adk_says
from scripted_agents import Script, calls, says
from world import World, eventually

ROOT = Path(__file__).parent.parent.parent
SETTINGS = [*ExecutionsSettings.model_fields]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(document: Path, language: str) -> str:
    """All code of one language in a document."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return "\n".join(pattern.findall(document.read_text()))


def run(document: Path) -> Any:
    """Run the Python of a document, and return what it has defined."""
    namespace: dict[str, Any] = {"__name__": document.stem}
    exec(compile(blocks(document, "python"), document.name, "exec"), namespace)
    return SimpleNamespace(**namespace)


def run_pytest(text: str, directory: Path) -> None:
    """Run a file of tests as a user would, apart from this session."""
    (directory / "test_document.py").write_text(text)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_document.py"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout


@pytest.mark.journey
def test_the_readme_is_a_flow_that_runs(world: World) -> None:
    readme = run(ROOT / "README.md")

    result = readme.research(["one", "two"])

    assert result.done == ["one", "two"]


def test_the_first_flow_goes_on_from_where_it_was(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    research = run(ROOT / "docs" / "first-steps.md").research
    with prefect_executions.testing() as kit:
        with kit.pause_at("page 3"):
            trial = kit.start(research, pages=5)
        trial.resume(checkpoint_id="ckpt_000003")

        assert trial.result == 5
        labels = [point.label for point in trial.get().checkpoints][::-1]
        assert labels == [f"page {n}" for n in (0, 1, 2, 3, 2, 3, 4)]


def test_the_flow_of_the_flows_document_goes_on_behind_what_it_has_read(stack: Stack) -> None:
    flows = run(ROOT / "docs" / "flows.md")
    with prefect_executions.testing() as kit:
        whole = kit.start(flows.review, texts={"a": "one two", "b": "three"})
        rest = kit.start(flows.review, texts={"a": "one", "b": "2"}, state={"read": ["a"]})

        assert (whole.result, rest.result) == (3, 1)
        assert [point.label for point in whole.get().checkpoints] == ["all is read"]


def test_a_prefect_flow_becomes_an_execution_that_survives(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = run(ROOT / "docs" / "from-prefect.md")
    asked: list[str] = []

    def ask_model(text: str) -> str:
        asked.append(text)
        return text.upper()

    monkeypatch.setitem(document.summary.fn.__globals__, "ask_model", ask_model)
    pages = ["one", "two"]

    assert document.report(pages) == ["ONE", "TWO"]
    with prefect_executions.testing() as kit:
        assert kit.start(document.report_that_is_retried, pages=pages).result == ["ONE", "TWO"]
        for flow_, answers in (
            (document.report_with_a_state, []),
            (document.approved_report, [{"approved": True}]),
        ):
            survived = kit.crash_everywhere(
                flow_,
                {"pages": pages},
                answers=answers,
                before=asked.clear,
                check=lambda _: None if asked == pages else pytest.fail(f"asked {asked}"),
                lose_writes=False,
            )
            assert survived.undisturbed.result == ["ONE", "TWO"]


def test_the_readme_s_steps_are_recorded_and_undone(stack: Stack) -> None:
    readme = run(ROOT / "README.md")
    with prefect_executions.testing() as kit:

        def check(trial: Trial) -> None:
            assert trial.result == "A-1 shipped"
            assert readme.world == ["charged A-1", "shipped A-1"]

        kit.crash_everywhere(
            readme.order,
            {"number": "A-1", "cents": 500},
            answers=[{"approved": True}],
            before=readme.world.clear,
            check=check,
            lose_writes=False,
        )


def test_the_agent_of_the_document_asks_before_it_buys(stack: Stack) -> None:
    agents = run(ROOT / "docs" / "agents.md")
    with prefect_executions.testing() as kit:

        def check(trial: Trial) -> None:
            assert agents.sold == ["a"]
            assert len(trial.state["history"]) == 4

        survived = kit.crash_everywhere(
            agents.shopping,
            {"wishes": ["a lamp"]},
            answers=[{"approved": True}],
            before=agents.sold.clear,
            check=check,
            compare=lambda trial: {"the result": trial.result},
            lose_writes=False,
        )
        assert survived.undisturbed.result == ['{"price":900,"buy":"bought a"}']


def test_the_graph_of_the_document_asks_before_it_books(stack: Stack) -> None:
    agents = run(ROOT / "docs" / "agents.md")
    with prefect_executions.testing() as kit:
        trial = kit.start(agents.travel, wish="to Rome")
        assert trial.get().checkpoints[0].label == "Book the night train?"
        trial.resume(input={"answer": "yes"})

    assert trial.result == "Booked: the night train."
    assert agents.booked == ["the night train"]
    # There its steps are tasks of no flow run, whose logs Prefect's API has no place for.
    with temporary_settings({PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore"}):
        outside = agents.graph.invoke(
            {"messages": [("user", "to Rome")]}, {"configurable": {"thread_id": "t"}}
        )
    assert [asked.value for asked in outside["__interrupt__"]] == ["Book the night train?"]


def test_the_porter_of_the_document_asks_before_it_reserves(stack: Stack) -> None:
    agents = run(ROOT / "docs" / "agents.md")
    agents.porter.model = Script("porter", [calls("reserve", room=7)], says)
    with prefect_executions.testing() as kit:
        trial = kit.start(agents.staying, wish="a room")
        assert agents.reserved == []
        trial.resume(input={"approved": True})
        assert len(trial.state["items"]) == 4

    assert trial.result == "reserved 7"
    assert agents.reserved == [7]


def test_the_clerk_of_the_document_asks_before_it_sends(stack: Stack) -> None:
    agents = run(ROOT / "docs" / "agents.md")
    turns = [[adk_calls("send", parcel="books")], adk_says]
    agents.clerk.model = AdkScript(model="script", name="clerk", turns=turns)
    with prefect_executions.testing() as kit:
        trial = kit.start(agents.serving, wish="Send my books")
        assert agents.sent == []
        trial.resume(input={"approved": True})

    assert trial.result == "sent books"
    assert agents.sent == ["books"]


def sends_once(send: Any) -> Any:
    """A flow that makes one call twice, by its key, with inputs that have no identity."""

    @flow
    @execution
    def sending() -> list[str]:
        return [send(1, mail=object()), send(1, mail=object())]

    return sending


def test_the_flows_of_the_steps_document_run(stack: Stack) -> None:
    steps = run(ROOT / "docs" / "steps.md")
    with prefect_executions.testing() as kit:
        reading = kit.start(steps.reading, titles=["What a day", "No", "No"])
        assert reading.result == 5
        assert kit.start(steps.all_of, titles=["What a day", "No", "No"]).result == 5

        measuring = kit.crash_everywhere(steps.measuring, {"rounds": 2}).undisturbed
        assert measuring.result == [0, 10]

        sending = kit.start(sends_once(steps.send))
        assert sending.result == ["sent 1", "sent 1"]

        booking = kit.start(steps.booking, room="12")
        booking.resume(input={"approved": True})
        assert steps.booked == ["12"]
        booking.resume(checkpoint_id="ckpt_000000")
        assert steps.booked == []
        booking.resume(input={"approved": False, "comment": "too loud"})
        assert booking.result == "too loud"


def test_the_operations_document_makes_a_state_that_fits_of_an_old_one(stack: Stack) -> None:
    operations = run(ROOT / "docs" / "operations.md")
    with prefect_executions.testing() as kit:
        old = kit.start(operations.survey, state={"done": ["one", "two"]})
        assert old.state == {"done": {"one": 1, "two": 1}}


def test_the_clients_of_the_document_count_and_watch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_EXECUTIONS_URL", str(world.rest.base_url))
    monkeypatch.setenv("PREFECT_EXECUTIONS_API_KEY", KEY)
    document = run(ROOT / "docs" / "client.md")

    assert document.count(3) == 3
    [counted, *_] = document.client.list(name="counting")
    assert counted.status == "completed"
    assert asyncio.run(document.statuses(counted.id)) == ["completed"]


def test_the_webhook_of_the_document_is_saved_and_its_signature_verified(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    document = run(ROOT / "docs" / "webhooks.md")
    body = json.dumps({"type": "execution.status", "data": {"execution_id": "exec_1"}})
    at = datetime.now(UTC)
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": f"{int(at.timestamp())}",
        "webhook-signature": Webhook(document.secret).sign("evt_1", at, body),
    }

    for _ in range(2):  # a repeat has the same id
        document.receive(body.encode(), headers)

    assert capsys.readouterr().out == "execution.status exec_1\n"
    ExecutionWebhook.delete("researcher-news")


def test_the_contributors_backend_is_tested(tmp_path: Path) -> None:
    head = "import pytest\nfrom prefect_executions.storage.objects import MemoryObjects, Objects\n"
    run_pytest(head + blocks(ROOT / "CONTRIBUTING.md", "python"), tmp_path)


def test_the_tests_of_the_testing_document_pass(tmp_path: Path) -> None:
    run_pytest(blocks(ROOT / "docs" / "testing.md", "python"), tmp_path)


def test_the_story_of_the_time_travel_document_is_true(tmp_path: Path) -> None:
    run_pytest(blocks(ROOT / "docs" / "time-travel.md", "python"), tmp_path)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_calls_of_the_api_document_work(world: World, tmp_path: Path) -> None:
    world.stack.run("prefect", "--no-prompt", "deploy", "--all", cwd=ROOT)
    env = {
        "URL": str(world.rest.base_url).rstrip("/"),
        "KEY": KEY,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", blocks(ROOT / "docs" / "http-api.md", "bash")],
        cwd=tmp_path,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )

    answers = "\n".join(file.read_text() for file in tmp_path.glob("*.json"))
    assert done.returncode == 0, done.stdout + done.stderr + answers


# The shell commands of a document run with these: `make` and `pip` only do a dry run, the service
# is the one that is running already, and a store is on the S3 server that is.
SHELL = r"""
make() { command make --dry-run --directory "$ROOT" "$@" > /dev/null; }
pip() { test "$1 ${2%%[*}" = "install prefect-executions"; }
prefect-executions() {
  case "$1" in
    keys | automations | deploy | webhooks) command prefect-executions "$@" ;;
    store) command prefect-executions "$@" --name documented $PLACE ;;
    *) command prefect-executions "$@" --url "$URL" ;;
  esac
}
"""


def test_the_shell_of_the_documents_runs(world: World, tmp_path: Path) -> None:
    world.stack.run("prefect", "work-pool", "create", "my-pool", "--type", "process", "--overwrite")
    told = CustomWebhookNotificationBlock(name="alerts", url="http://127.0.0.1:9")
    told.save("alerts", overwrite=True, _sync=True)  # type: ignore[call-arg]
    news = ExecutionWebhook(url="http://127.0.0.1:9", enabled=False)
    news.save("researcher-news", overwrite=True)
    paused, ended = world.gated(to=3), world.create("counting", to=2)
    world.pause_and_leave(paused, 2)
    world.until_ended(ended)
    s3 = world.stack.s3
    replace(s3.objects(), bucket="my-executions").create_bucket()
    env = {
        **os.environ,
        **world.stack.env,
        "PLACE": f"--endpoint {s3.endpoint} --region us-east-1 --path-style --access-key-id "
        f"{s3.access_key_id} --secret-access-key {s3.secret_access_key}",
        "ROOT": str(ROOT),
        "URL": str(world.rest.base_url).rstrip("/"),
        "PREFECT_EXECUTIONS_API_KEY": KEY,
        "XDG_CONFIG_HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    known = {
        "exec_0192f0c1a6b87c3d9e4f5a6b7c8d9e0f": ended["id"],
        "exec_…": paused["id"],
        "ckpt_000042": world.get(paused)["checkpoints"][0]["id"],
        "pxk_…": shlex.quote(KEY),
        "slack-webhook/": "custom-webhook/",
    }

    for document in DOCUMENTS:
        text = blocks(document, "sh")
        for placeholder, meant in known.items():
            text = text.replace(placeholder, meant)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", SHELL + text],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{document.name}: {done.stdout}{done.stderr}"

    for automation in world.prefect.read_automations():
        world.prefect.delete_automation(automation.id)
    world.stack.run("prefect-executions", "keys", "revoke", "me")
    ExecutionWebhook.delete("researcher-news")
    world.rest.delete(world.path(paused))


@pytest.mark.journey
def test_the_manifest_of_the_operations_document_is_understood() -> None:
    manifests = yaml.safe_load_all(blocks(ROOT / "docs" / "operations.md", "yaml"))
    deployment, service, ingress = (manifest["spec"] for manifest in manifests)
    (container,) = deployment["template"]["spec"]["containers"]

    program, *command = container["command"]
    function, arguments, _ = app.parse_args(command)
    settings = [f"PREFECT_INTEGRATIONS_EXECUTIONS_{name.upper()}" for name in SETTINGS]

    assert (program, function) == ("prefect-executions", serve)
    assert arguments.arguments == {"host": "0.0.0.0", "port": 4300}
    env = {variable["name"]: variable["value"] for variable in container["env"]}
    assert env.keys() <= {"PREFECT_API_URL", "FORWARDED_ALLOW_IPS", *settings}
    assert ip_network(env["FORWARDED_ALLOW_IPS"]).is_private
    assert service["selector"] == deployment["template"]["metadata"]["labels"]
    (path,) = ingress["rules"][0]["http"]["paths"]
    assert path["backend"]["service"]["port"]["number"] == service["ports"][0]["port"] == 4300
    assert ingress["tls"][0]["hosts"] == [ingress["rules"][0]["host"]]


@pytest.mark.journey
def test_every_setting_is_in_the_operations_document() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()

    assert [name for name in SETTINGS if f"`{name.upper()}`" not in text] == []


def test_the_profile_of_the_client_document_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prefect-executions" / "config.toml"
    file.parent.mkdir()
    file.write_text(blocks(ROOT / "docs" / "client.md", "toml").replace("…", "x"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    found = find(profile="default")
    assert (found.url, found.api_key) == ("https://executions.example.com", "pxk_x")


def test_the_notification_of_the_document_is_what_is_posted(world: World) -> None:
    paused = world.gated(to=3)
    world.pause_and_leave(paused, 2)
    resource = EventResourceFilter(id=[f"prefect.flow-run.{flow_run_id(paused['id'])}"])
    filter_ = EventFilter(
        event=EventNameFilter(name=["prefect.flow-run.Suspended"]), resource=resource
    )

    def first() -> Any:
        """The state of the pause itself; its form has another state."""
        found = map(message_of, world.prefect.read_events(filter_, limit=50).events)
        bodies = [json.loads(message.body) for message in found if message is not None]
        return next((b for b in bodies if b["data"]["previous_status"] == "running"), None)

    told = eventually(first, "Prefect has the event")
    shown = json.loads(blocks(ROOT / "docs" / "webhooks.md", "json"))

    assert told.keys() == shown.keys()
    assert told["data"].keys() == shown["data"].keys()
    same = ("status", "previous_status", "state_name")
    assert [told["data"][name] for name in same] == [shown["data"][name] for name in same]


@pytest.mark.journey
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_of_a_document_is_of_a_kind_that_is_run(document: Path) -> None:
    kinds = set(re.findall(r"^```(\w+)$", document.read_text(), re.MULTILINE))

    assert kinds <= {"python", "sh", "bash", "yaml", "toml", "json", "text"}


@pytest.mark.journey
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.journey
def test_every_promise_names_a_test_that_is_there() -> None:
    named = re.findall(r"`(tests/\S+?)::(\w+)`", (ROOT / "docs" / "guarantees.md").read_text())

    assert len(named) > 15
    for file, name in named:
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text()), f"{file}::{name}"


@pytest.mark.journey
def test_troubleshooting_names_every_error() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    kinds = [
        kind for kind in vars(errors).values() if getattr(kind, "__module__", "") == errors.__name__
    ]

    assert len(kinds) > 20
    assert [
        kind.__name__
        for kind in kinds
        if kind not in (errors.ExecutionError, errors.StoreError)  # the roots of the others
        and not re.search(rf"\b{kind.__name__}\b", text)
    ] == []


API = re.compile(r"^::: (\S+)\n((?:    .*\n)*)", re.MULTILINE)
EXPORTING = [
    "",
    ".blocks",
    ".client",
    ".service",
    ".storage",
    ".supervisor",
    ".testkit",
    ".adk",
    ".openai_agents",
    ".pydantic_ai",
]


def shown_in_the_api() -> Iterator[object]:
    """What the pages of the Python API show."""
    for page in (ROOT / "docs" / "api").glob("*.md"):
        for name, options in API.findall(page.read_text()):
            shown = resolve_name(name)
            yield shown
            if isinstance(shown, ModuleType):
                chosen = (yaml.safe_load(options) or {}).get("options", {}).get("members")
                own = [n for n, v in vars(shown).items() if getattr(v, "__module__", None) == name]
                yield from (getattr(shown, member) for member in chosen or own)


@pytest.mark.journey
@pytest.mark.parametrize("folder", EXPORTING)
def test_the_api_shows_every_public_name(folder: str) -> None:
    package = import_module(f"prefect_executions{folder}")
    shown = {id(value) for value in shown_in_the_api()}

    for name in package.__all__:
        value = getattr(package, name)
        called = vars(type(value)).get("__call__")  # `execution` is shown by what calls it
        assert shown & {id(value), id(called)}, name


def test_the_store_script_saves_a_store(world: World) -> None:
    server = world.stack.s3
    env = {
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
    }
    command = ["blocks/store.py", "--name", "scripted", "--bucket", "executions"]
    command += ["--endpoint", server.endpoint, "--region", "us-east-1", "--path-style"]

    done = subprocess.run(
        [sys.executable, *command, "--credentials-from-environment"],
        cwd=ROOT,
        env={**os.environ, **world.stack.env, **env},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "execution-store/scripted is saved" in done.stdout
