"""Webhooks: what happens to executions, delivered to one URL each, in order."""
