"""An MCP server, over stdio, that notes each call of its tool in a file."""

import sys
from pathlib import Path

from mcp.server import MCPServer

server = MCPServer("weather", instructions="Ask for one city at a time.")


@server.tool()
def weather(city: str) -> str:
    with Path(sys.argv[1]).open("a") as file:
        file.write(f"{city}\n")
    return f"sun in {city}"


if __name__ == "__main__":
    server.run()
