"""Executions from outside a run: create, get, search, checkpoint, pause, resume, delete."""
