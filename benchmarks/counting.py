"""Run a flow here, and print what it has asked for: `python -m benchmarks.counting FLOW TURNS`."""

import json
import resource
import sys
from collections import Counter
from typing import Any

import httpx
from botocore.httpsession import URLLib3Session

from benchmarks.flows import work

asked: Counter[str] = Counter()


def main() -> None:
    """Count requests to Prefect and to S3, and the most memory that was held."""
    send, asend, s3_send = httpx.Client.send, httpx.AsyncClient.send, URLLib3Session.send

    def count(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        asked["prefect"] += 1
        return send(self, request, **options)

    async def acount(
        self: httpx.AsyncClient, request: httpx.Request, **options: Any
    ) -> httpx.Response:
        asked["prefect"] += 1
        return await asend(self, request, **options)

    def s3_count(self: URLLib3Session, request: Any) -> Any:
        asked["s3"] += 1
        asked[f"s3 {request.method}"] += 1
        return s3_send(self, request)

    httpx.Client.send, httpx.AsyncClient.send = count, acount  # type: ignore[method-assign]
    URLLib3Session.send = s3_count
    name, turns = sys.argv[1:]
    getattr(work, name)(int(turns))
    asked["kilobytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(asked))


if __name__ == "__main__":
    main()
