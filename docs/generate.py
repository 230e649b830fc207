"""Write what is made of the code: `make docs`."""

from pathlib import Path

from prefect.client.orchestration import get_client

from prefect_executions.executions.executions import Executions
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.service import create_app
from prefect_executions.service.docs.documents import write
from prefect_executions.service.keyring import Keyring
from prefect_executions.storage.objects import MemoryObjects


def main(directory: Path = Path(__file__).parent) -> None:
    """Write `openapi.json` and `http-api.md`; no server is asked.

    Args:
        directory: Where to.
    """
    with get_client(sync_client=True) as client:
        executions = Executions(MemoryObjects(), FlowRuns(client))
        write(create_app(executions, Keyring(client, api_key="none")), directory)


if __name__ == "__main__":
    main()
