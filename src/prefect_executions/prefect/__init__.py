"""Executions in Prefect's terms: flow runs, states, pauses, events, artifacts, automations."""
