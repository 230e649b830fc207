"""The events of executions, for clients, as they happen."""
