"""Generate `client/sync.py` from `client/aio.py`: `make client`."""

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parent.parent / "src/prefect_executions/client"

_WORDS = {
    "import asyncio": "from time import sleep",
    "asyncio.sleep": "sleep",
    "The async client: see the package.": "The sync client: see the package. "
    "`make client` generates it from `aio`.",
    "the REST service, for an event loop; a context": "the REST service; a context",
    r"async (?=def|for|with)": "",
    r"await ": "",
    r"__a(?=enter__|exit__)": "__",
    r"Async(?=BaseTransport|Client|Connection|Iterator)": "",
    r"for (\w+) in (.+):\n +yield \1\n": r"yield from \2\n",
    r"\ba(?=close\(|connect_sse\(|iter_sse\(|read\()": "",
}


def sync_of(text: str) -> str:
    """The text of the sync client, made from that of the async one.

    Raises:
        ValueError: the text lacks something that is to be replaced.
    """
    for found, instead in _WORDS.items():
        text, count = re.subn(found, instead, text)
        if not count:
            raise ValueError(f"{found!r} is not there any more; take it out of {__file__}")
    for command in (["check", "--fix-only", "--quiet"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", CLIENT / "sync.py", "-"]
        text = subprocess.run(ruff, input=text, text=True, check=True, capture_output=True).stdout
    return text


if __name__ == "__main__":
    (CLIENT / "sync.py").write_text(sync_of((CLIENT / "aio.py").read_text()))
