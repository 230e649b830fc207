"""Whether somebody runs the deployments of executions: workers in their pools, or `serve`."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import DeploymentStatus, WorkerStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from prefect_executions.doctor.finding import Finding, note, right, wrong
from prefect_executions.errors import PrefectUnavailable
from prefect_executions.prefect.deployments import list_execution_deployments
from prefect_executions.prefect.errors import prefect_errors

WORKERS = "workers"
_DEPLOYMENTS = "deployments"


def check_workers(client: SyncPrefectClient) -> list[Finding]:
    """Which deployments are executions, and whether somebody runs them.

    Raises:
        PrefectUnavailable: Prefect does not answer.
    """
    deployments = list_execution_deployments(client)
    if not deployments:
        what = "none is known as an execution. Put `@execution` below the `@flow` of one."
        return [note(_DEPLOYMENTS, "Prefect", what, "prefect deploy")]
    names = ", ".join(sorted({each.name for each in deployments}))
    what = f"{len(deployments)} known as executions: {names}."
    pools: dict[str, Counter[str]] = defaultdict(Counter)  # their queues, with the deployments
    for each in deployments:
        if each.work_pool_name:
            pools[each.work_pool_name][each.work_queue_name or "default"] += 1
    return [
        right(_DEPLOYMENTS, "Prefect", what),
        *chain.from_iterable(
            _check_pool(client, pool, queues) for pool, queues in sorted(pools.items())
        ),
        *_served(each for each in deployments if not each.work_pool_name),
    ]


def _check_pool(client: SyncPrefectClient, name: str, queues: Counter[str]) -> Iterator[Finding]:
    """Whether a work pool, and the work queues of it that deployments use, run them."""
    where = f"work pool {name!r}"
    of_them = f"{queues.total()} of these deployments"
    try:
        with prefect_errors():
            pool = client.read_work_pool(name)
            workers = client.read_workers_for_work_pool(name)
            known = client.read_work_queues(work_pool_name=name)
    except PrefectUnavailable as error:
        if not isinstance(error.__cause__, ObjectNotFound):
            raise
        mend = f"prefect work-pool create {name} --type process"
        yield wrong(WORKERS, where, f"{of_them} need it, and it does not exist.", mend)
        return
    polling = sum(worker.status is WorkerStatus.ONLINE for worker in workers)
    if pool.is_paused:
        mend = f"prefect work-pool resume {name}"
        yield wrong(WORKERS, where, f"it is paused, so nothing of {of_them} starts.", mend)
    elif pool.is_push_pool or pool.is_managed_pool:
        yield right(WORKERS, where, f"it runs {of_them}, and needs no worker.")
    elif not polling:
        mend = f"prefect worker start --pool {name}"
        yield wrong(WORKERS, where, f"no worker polls it, so nothing of {of_them} starts.", mend)
    else:
        who = "a worker polls it" if polling == 1 else f"{polling} workers poll it"
        yield right(WORKERS, where, f"{who}, for {of_them}.")
    for queue in sorted(each.name for each in known if each.is_paused and each.name in queues):
        what = f"it is paused, so nothing of {queues[queue]} of these deployments starts."
        mend = f"prefect work-queue resume {queue} --pool {name}"
        yield wrong(WORKERS, f"work queue {queue!r} of {where}", what, mend)


def _served(deployments: Iterable[DeploymentResponse]) -> Iterator[Finding]:
    """The deployments without a work pool, which a program of their own serves."""
    for deployment in deployments:
        where = f"deployment {deployment.name!r}"
        if deployment.status is DeploymentStatus.NOT_READY:
            program = (deployment.entrypoint or "").split(":")[0] or "the program with its `.serve`"
            what = "it has no work pool, and the program that serves it does not run."
            yield wrong(WORKERS, where, what, f"python {program}")
        else:
            yield right(WORKERS, where, "a program serves it.")
