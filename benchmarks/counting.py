"""Run a flow here, and print what it has asked for: `python -m benchmarks.counting FLOW TURNS`."""

import importlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

asked: Counter[str] = Counter()


def main() -> None:
    """Count requests to Prefect and to S3, and the most memory that was held."""
    name, turns = sys.argv[1:]
    run = getattr(importlib.import_module(f"benchmarks.flows.{name}"), name)
    send, asend = httpx.Client.send, httpx.AsyncClient.send

    def count(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        asked["prefect"] += 1
        return send(self, request, **options)

    async def acount(
        self: httpx.AsyncClient, request: httpx.Request, **options: Any
    ) -> httpx.Response:
        asked["prefect"] += 1
        return await asend(self, request, **options)

    httpx.Client.send, httpx.AsyncClient.send = count, acount  # type: ignore[method-assign]
    if name == "durable":
        _count_s3()
    run(int(turns))
    # Not `ru_maxrss`, which begins with what the process that started this one had.
    status = Path("/proc/self/status").read_text()
    asked["kilobytes"] = int(status.partition("VmHWM:")[2].split()[0])
    print(json.dumps(asked))


def _count_s3() -> None:
    from botocore.httpsession import URLLib3Session  # noqa: PLC0415 - a plain flow has none

    send = URLLib3Session.send

    def count(self: URLLib3Session, request: Any) -> Any:
        asked["s3"] += 1
        return send(self, request)

    URLLib3Session.send = count


if __name__ == "__main__":
    main()
