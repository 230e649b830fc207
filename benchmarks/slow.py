"""A TCP proxy that takes its time on the way to the server, as a network does; its own process."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prefect_executions.local import free_ports


@contextmanager
def slowly(port: int, seconds: float) -> Iterator[int]:
    """A port on which a local server answers so many seconds later."""
    slow_port = free_ports(1)
    command = [sys.executable, "-m", "benchmarks.slow", f"{slow_port}", f"{port}", f"{seconds}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as proxy:
        try:
            assert proxy.stdout is not None
            proxy.stdout.readline()  # it listens
            yield slow_port
        finally:
            proxy.kill()


async def serve(slow_port: int, port: int, seconds: float) -> None:
    """Pass on what comes, late, and what comes back, at once."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back, seconds), pump(there, writer, 0))

    server = await asyncio.start_server(connect, "127.0.0.1", slow_port)
    print("listening", flush=True)
    await server.serve_forever()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    while data := await reader.read(1 << 20):
        await asyncio.sleep(seconds)
        writer.write(data)
        await writer.drain()
    writer.close()


if __name__ == "__main__":
    slow_port, port, seconds = sys.argv[1:]
    asyncio.run(serve(int(slow_port), int(port), float(seconds)))
