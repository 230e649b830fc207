"""moto over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from unittest.mock import patch

from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer


@contextmanager
def moto_server() -> Iterator[str]:
    """The address of a moto whose conditional PUTs are atomic, like those of S3.

    moto itself checks whether a key exists and stores it some lines later, in many threads.
    """
    lock, put_object = Lock(), S3Response.put_object

    def one_at_a_time(response: S3Response) -> Any:
        with lock:
            return put_object(response)

    server = ThreadedMotoServer(port=0, verbose=False)
    with patch.object(S3Response, "put_object", one_at_a_time):
        server.start()
        try:
            host, port = server.get_host_and_port()
            yield f"http://{host}:{port}"
        finally:
            server.stop()
