"""The counters of the service."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prefect.client.orchestration import get_client
from prometheus_client.parser import text_string_to_metric_families

from prefect_executions.local import Stack
from prefect_executions.service.metrics import MeteredObjects, Metrics
from prefect_executions.storage.conformance import ObjectsContract
from prefect_executions.storage.objects import MemoryObjects, Objects
from rest import opened


class TestMeteredObjects(ObjectsContract):
    @pytest.fixture
    def objects(self) -> Objects:
        return MeteredObjects(MemoryObjects(), Metrics())


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def rest(stack: Stack, metrics: Metrics) -> Iterator[TestClient]:
    with (
        get_client(sync_client=True) as prefect,
        opened(prefect, MeteredObjects(MemoryObjects(), metrics), metrics=metrics) as client,
    ):
        yield client


def told(rest: TestClient) -> dict[tuple[str, ...], float]:
    """Every number at `/metrics`, by its name and the values of its labels."""
    answer = rest.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_status(rest: TestClient) -> None:
    id_ = rest.post("/v1/execution", json={"name": "a"}).json()["id"]
    for path in (id_, id_, "exec_1"):
        rest.get(f"/v1/execution/{path}")
    rest.get("/nowhere")
    rest.request("BREW", "/v1/execution")

    counted = told(rest)

    route = "/v1/execution/{execution_id}"
    assert counted["executions_requests_total", "GET", route, "200"] == 2
    assert counted["executions_requests_total", "GET", route, "404"] == 1
    assert counted["executions_requests_total", "POST", "/v1/execution", "201"] == 1
    assert counted["executions_requests_total", "GET", "none", "404"] == 1
    assert counted["executions_request_seconds_count", "GET", route] == 3
    assert not any(id_ in label for name in counted for label in name)
    assert not any("BREW" in name for name in counted)


def test_checkpoints_and_what_they_cost_are_counted(rest: TestClient) -> None:
    id_ = rest.post("/v1/execution", json={"name": "a"}).json()["id"]
    before = told(rest)

    rest.put(f"/v1/execution/{id_}/checkpoint", json={"state": {"text": "x" * 100}})

    after = told(rest)
    assert after["executions_checkpoint_seconds_count",] == 1
    assert after["executions_checkpoint_bytes_sum",] == len('{"text":""}') + 100
    key = ("executions_store_requests_total", "PUT")
    assert after[key] - before[key] == 1
    sent = ("executions_store_bytes_total", "sent")
    assert after[sent] > before[sent]


def test_what_the_supervisor_does_is_counted(rest: TestClient, metrics: Metrics) -> None:
    metrics.acted("declared a crash")

    assert told(rest)["executions_supervisor_actions_total", "declared a crash"] == 1


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def test_a_request_is_a_span_of_whoever_sent_it(
    rest: TestClient, spans: InMemorySpanExporter
) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    made = rest.post("/v1/execution", json={"name": "a"}, headers={"traceparent": parent})
    spans.clear()

    path = f"/v1/execution/{made.json()['id']}/checkpoint"
    rest.put(path, json={"state": 1}, headers={"traceparent": parent})

    told = {span.name: span for span in spans.get_finished_spans()}
    request = told["PUT /v1/execution/{execution_id}/checkpoint"]
    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == 201
    assert request.context.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert told["store PUT"].context.trace_id == request.context.trace_id
