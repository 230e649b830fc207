"""The documents of the API: as committed, complete, and without external parts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prefect.client.orchestration import SyncPrefectClient

from prefect_executions.local import free_ports
from prefect_executions.service.app import Openness
from prefect_executions.service.docs.documents import write
from prefect_executions.service.problems import PROBLEMS
from prefect_executions.service.responses import CODES
from prefect_executions.storage.objects import MemoryObjects
from rest import opened

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def rest() -> Iterator[TestClient]:
    nowhere = SyncPrefectClient(f"http://127.0.0.1:{free_ports(1)}/api")
    with opened(nowhere, MemoryObjects(), openness=Openness(docs=True)) as client:
        yield client


@pytest.mark.parametrize("name", ["openapi.json", "http-api.md"])
def test_what_is_committed_is_what_the_code_makes(
    rest: TestClient, tmp_path: Path, name: str
) -> None:
    write(rest.app, tmp_path)  # type: ignore[arg-type]

    assert (DOCS / name).read_text() == (tmp_path / name).read_text(), "run `make docs`"


def test_every_operation_has_an_id_a_summary_and_its_errors(rest: TestClient) -> None:
    document = rest.get("/openapi.json").json()

    assert document["openapi"].startswith("3.1")
    operations = [
        operation for methods in document["paths"].values() for operation in methods.values()
    ]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids) == 23
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        if operation["tags"] != ["service"]:
            assert operation["responses"].keys() >= {"401", "403", "422", "429", "500", "503"}


def test_every_code_is_documented(rest: TestClient) -> None:
    assert {code for _, code in PROBLEMS.values()} < CODES.keys()
    for status, code in PROBLEMS.values():
        assert CODES[code][0] is status


def test_every_body_and_the_execution_have_an_example(rest: TestClient) -> None:
    document = rest.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    bodies = re.findall(r'"requestBody": .*?"(#/components/schemas/\w+)"', json.dumps(document))

    for name in {"Execution", *(ref.rpartition("/")[2] for ref in bodies)}:
        assert schemas[name]["examples"], name


def test_the_page_needs_nothing_from_elsewhere(rest: TestClient) -> None:
    answer = rest.get("/docs")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "<script" not in answer.text
    assert not re.search(r'(src|href)="(https?:)?//', answer.text)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src")
    for code in CODES:
        assert f"<code>{code}</code>" in answer.text


def test_the_documents_want_a_key_unless_they_are_public() -> None:
    nowhere = SyncPrefectClient(f"http://127.0.0.1:{free_ports(1)}/api")
    with opened(nowhere, MemoryObjects()) as client:
        for path in ("/docs", "/openapi.json", "/metrics"):
            assert client.get(path, headers={"Authorization": ""}).status_code == 401
            assert client.get(path).status_code == 200
