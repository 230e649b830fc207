"""Executions from outside a run: create, read, search, checkpoint, pause, resume, delete."""
