"""The ready automations, carried out by a real Prefect server."""

import json
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from prefect_executions.cli.app import main
from prefect_executions.prefect.automations import notify_of_failures, resume_after
from world import World, eventually


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[Any]]]:
    """A receiver of notifications, and what it has received."""
    came: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", came
        server.shutdown()


def test_a_failure_is_told(world: World, receiver: tuple[str, list[Any]]) -> None:
    url, came = receiver
    block = CustomWebhookNotificationBlock(
        name="test", url=url, json_data={"subject": "{{subject}}", "body": "{{body}}"}
    )
    block.save("alerts", overwrite=True, _sync=True)  # type: ignore[call-arg]

    id_ = notify_of_failures(world.prefect, "custom-webhook/alerts")
    assert notify_of_failures(world.prefect, "custom-webhook/alerts") == id_
    execution = world.create("failing", message="no luck")
    world.until_ended(execution)

    eventually(lambda: came, "a notification arrives")
    assert "test has failed" in json.dumps(came)
    world.prefect.delete_automation(id_)


def test_what_is_paused_for_long_is_resumed(world: World) -> None:
    id_ = resume_after(world.prefect, timedelta(seconds=10))
    execution = world.gated(to=2)
    world.pause_and_leave(execution, 2)

    ended = world.until(execution, "it completes", lambda e: e["status"] == "completed")

    assert ended["prefect"]["attempt"] == 2
    world.prefect.delete_automation(id_)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["automations", "notify", "slack-webhook/nobody"], "there is no block"),
        (["automations", "resume", "--after", "5s"], "give 10 seconds or more"),
    ],
)
def test_wrong_usage_is_said(
    world: World, capsys: pytest.CaptureFixture[str], command: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command)

    assert ended.value.code == 2
    assert told in capsys.readouterr().err
