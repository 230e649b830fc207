"""Events for clients, as they happen."""
