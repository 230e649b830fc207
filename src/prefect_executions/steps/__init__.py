"""`@step`: calls that are recorded and replayed, their identity, and undoing them."""
