"""The server that Prefect starts in the background for a script, where no other is configured.

Ctrl-C in a terminal reaches it, too, as it is a process of the same group. It ends, and the script
could say nothing any more of how it has ended: Prefect's client would try for a minute, in vain.
"""

import logging
import subprocess

import httpx
from prefect.settings import get_current_settings

logger = logging.getLogger(__name__)

_ENDING = 5.0  # seconds in which a server that was interrupted, too, begins to end
_ENDED = 10.0  # seconds in which it then has ended


def restart_if_interrupted() -> None:
    """After an interruption: start Prefect's temporary server of this process again if it ends.

    It has the same port then, so that all clients of this process go on. Without such a server this
    does nothing.
    """
    if get_current_settings().api.url:
        return
    # Prefect has imported it if it has started a server; otherwise it takes long.
    from prefect.server.api.server import SubprocessASGIServer  # noqa: PLC0415

    server = SubprocessASGIServer()  # the one of this process; a new one is not started
    process = server.server_process
    if process is None:
        return
    try:
        process.wait(_ENDING)
    except subprocess.TimeoutExpired:
        if _answers(server.api_url):
            return
        try:
            process.wait(_ENDED)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    logger.info("Prefect's temporary server was interrupted, too; it is started again.")
    server.running = False
    try:
        server.start()
    except RuntimeError as failure:
        logger.warning("Prefect's temporary server did not start again: %s", failure)


def _answers(api_url: str) -> bool:
    try:
        return httpx.get(f"{api_url}/health", timeout=_ENDED).is_success
    except httpx.TransportError:
        return False
