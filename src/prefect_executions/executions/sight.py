"""Which executions a caller may see, by the tags of their runs."""

from dataclasses import dataclass

from prefect.client.schemas.objects import FlowRun

from prefect_executions.prefect.tags import agent_tag, deployment_tag


@dataclass(frozen=True)
class Sight:
    """Which executions are seen: those of some agents, and of some deployments.

    What was called in an execution is of its agent and of its deployment, too.

    Args:
        agents: The agents; None for all executions, also those without one.
        deployments: The deployments, as `flow/deployment`; None for all executions, also those
            without one.
    """

    agents: frozenset[str] | None = None
    deployments: frozenset[str] | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether some executions are not seen."""
        return bool(self.tags)

    @property
    def tags(self) -> list[list[str]]:
        """Lists of tags: a run that is seen has a tag of each list."""
        tags = []
        if self.agents is not None:
            tags.append([agent_tag(agent) for agent in sorted(self.agents)])
        if self.deployments is not None:
            tags.append([deployment_tag(name) for name in sorted(self.deployments)])
        return tags

    def sees(self, run: FlowRun) -> bool:
        """Whether the execution of a run is seen."""
        return all(any(tag in run.tags for tag in some) for some in self.tags)


ALL = Sight()
