"""An MCP server: executions as tools for agents, over stdio and at `/mcp` of the service.

All tools are written over the async client of the REST API, so that keys, what a key may see,
limits, the audit log and refusals are the service's own.
"""
