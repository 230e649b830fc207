"""The store of executions: its block type, whose it is, and which one a flow opens."""
