"""Prefect as large installations run it, and executions that are managed over REST."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

from chaos.cluster import CONFIG, Cluster
from chaos.servers import Balancer, Postgres, Redis, answers, several
from chaos.tasks import EDITED, Work
from prefect_executions.client import Client, NotFound
from prefect_executions.local import Process, Stack, free_ports
from prefect_executions.models import Execution

SECOND_POOL = "executions-2"
_PREFECT = f"{Path(sys.executable).parent}/prefect"


class _Prefect:
    """Several API servers and the background services, behind one address.

    It takes the place of the single server of a `Stack`.

    Args:
        stack: The stack.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.postgres, self.redis = Postgres(), Redis(stack.data)
        self.env = {
            **stack.env,
            "PREFECT_API_DATABASE_CONNECTION_URL": self.postgres.url,
            "PREFECT_API_DATABASE_MIGRATE_ON_START": "false",
            "PREFECT_MESSAGING_BROKER": "prefect_redis.messaging",
            "PREFECT_MESSAGING_CACHE": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
            "PREFECT_REDIS_MESSAGING_HOST": "127.0.0.1",
            "PREFECT_REDIS_MESSAGING_PORT": f"{self.redis.port}",
            "PREFECT_SERVER_DOCKET_URL": f"{self.redis.url}/1",
        }
        first = free_ports(2)
        self.ports = [first, first + 1]
        self.api_servers = [self._api_server(port) for port in self.ports]
        self.services = self._process("Prefect's services", "server", "services", "start")
        port = int(stack.ui_url.rpartition(":")[2])
        self.balancer = Balancer(
            stack.data, "prefect", port=port, ports=self.ports, health="/api/health"
        )
        self._resources = ExitStack()

    def start(self) -> None:
        """Start the servers."""
        with ExitStack() as resources:
            resources.enter_context(several(self.postgres, self.redis, self.balancer))
            migrate = [_PREFECT, "server", "database", "upgrade", "-y"]
            subprocess.run(migrate, env={**os.environ, **self.env}, check=True, capture_output=True)
            for process in (*self.api_servers, self.services):
                resources.callback(process.stop)
                process.start()
            self._resources = resources.pop_all()
        self.balancer.wait_until_answered()

    def wait_until(self, ready: object) -> None:
        """Return at once, as `start` waits."""

    def stop(self) -> None:
        """Stop the servers."""
        self._resources.close()

    def restart_one(self, which: int) -> None:
        """Kill an API server, and start it again; another one answers meanwhile."""
        server, port = self.api_servers[which], self.ports[which]
        server.kill()
        server.start()
        server.wait_until(lambda: answers(f"http://127.0.0.1:{port}/api/health"))

    def _api_server(self, port: int) -> Process:
        command = ("server", "start", "--no-services", "--host", "127.0.0.1", "--port", f"{port}")
        return self._process(f"API server {port}", *command)

    def _process(self, name: str, *command: str) -> Process:
        return Process(
            name,
            [_PREFECT, *command],
            log=self._stack.data / f"{name.replace(' ', '-')}.log",
            env=self.env,
        )


class Grid(Cluster):
    """Two API servers on PostgreSQL and Redis, two replicas of the service, two work pools.

    The replicas, each with its supervisor, take the place of a `Cluster`'s supervisors. Each pool
    has two workers.

    Args:
        data: The directory for all files.
        seed: Decides which API server dies.
        limit: The concurrency limit of each deployment.
    """

    second_pool = SECOND_POOL

    def __init__(self, data: Path, *, seed: int = 1, limit: int | None = None) -> None:
        pools = ("executions", SECOND_POOL, SECOND_POOL)
        super().__init__(data, more_workers=pools, supervisors=0, limit=limit)
        # Many flows that start at once take long; starting a run twice only makes it longer.
        self.stack.env["PREFECT_INTEGRATIONS_EXECUTIONS_PENDING_SECONDS"] = "120"
        self._prefect = _Prefect(self.stack)
        self.stack.server = self._prefect  # type: ignore[assignment]
        self._random = Random(f"{seed} grid")
        first = free_ports(3)
        self._replica_ports = [first + 1, first + 2]
        self.supervisors = [
            Process(
                "a replica",
                [f"{Path(sys.executable).parent}/prefect-executions", "serve", "--port", f"{port}"],
                log=self.data / f"replica-{port}.log",
                env=self.stack.env,
            )
            for port in self._replica_ports
        ]
        self._rest = Balancer(
            self.data, "replicas", port=first, ports=self._replica_ports, health="/health"
        )

    @contextmanager
    def _services(self) -> Iterator[None]:
        with super()._services(), several(self._rest), Client(self._rest.url, patience=30) as rest:
            self._client = rest
            self._rest.wait_until_answered()
            yield

    def restart_prefect(self) -> None:
        """Kill one of the API servers, and start it again."""
        self._prefect.restart_one(self._random.randrange(len(self._prefect.api_servers)))

    def create(self, name: str, deployment: str, parameters: dict[str, int]) -> str:
        """Create an execution, and return its id."""
        return self._client.create(
            name, deployment=deployment, parameters=parameters, config=CONFIG
        ).id

    def fork(self, execution: str, deployment: str) -> str:
        """Continue an execution in another deployment, once; returns the id of the fork."""
        key = f"fork {execution}"
        return self._client.fork(execution, deployment=deployment, idempotency_key=key).id

    def fork_at(self, execution: str, checkpoint: str) -> str:
        """Let another execution go on from a checkpoint; returns the id of the fork."""
        return self._client.fork(execution, checkpoint_id=checkpoint).id

    def get(self, execution: str) -> Execution:
        """Read an execution without its checkpoints."""
        return self._client.get(execution, checkpoints="none")

    def save(self, execution: str, state: Work, *, after: str) -> str:
        """Save a checkpoint as a person does, unless there is a newer one; returns its id."""
        saved = self._client.checkpoint(execution, state.model_dump(), label=EDITED, after=after)
        return saved.checkpoint.id

    def is_gone(self, execution: str) -> bool:
        """Whether the service answers 404 about an execution."""
        try:
            self._client.get(execution)
        except NotFound:
            return True
        return False

    def pause(self, execution: str) -> None:
        """Pause an execution."""
        self._client.pause(execution)

    def resume(self, execution: str, checkpoint: str | None) -> None:
        """Resume an execution, from a checkpoint."""
        self._client.resume(execution, checkpoint_id=checkpoint)

    def delete(self, execution: str) -> None:
        """Delete an execution; a supervisor finishes it when it takes longer."""
        self._client.delete(execution, wait=0)
