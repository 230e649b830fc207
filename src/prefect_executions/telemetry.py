"""Spans: they go where OpenTelemetry is configured, as for Prefect's own, and nowhere otherwise."""

from opentelemetry import trace

tracer = trace.get_tracer("prefect_executions")
