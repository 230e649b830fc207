"""The intervals and limits of deliveries."""

from dataclasses import dataclass

from prefect_executions.webhooks.lease import TERM


@dataclass(frozen=True)
class Timing:
    """The intervals of deliveries, in seconds, and the limits of their tries.

    Attributes:
        poll: Between two reads of new events.
        lookback: How late an event may reach Prefect and be delivered by the next read.
        long_lookback: How late it may reach Prefect and be delivered at all.
        long_lookback_every: Between two reads that go back that far.
        first_retry: Before the second try; each further wait is twice as long.
        longest_retry: The longest wait between two tries.
        refusals: How often a receiver may fail with a message before it is a dead letter.
        rejections: How often it may answer that it does not take the message at all.
        give_up: The age at which an event that could not be delivered is a dead letter, however
            often it was tried.
        timeout: For the receiver's answer.
        save: Between two writes of the cursor.
        save_idle: The same, when there was nothing to deliver.
        term: How long a replica that was killed blocks the others.
    """

    poll: float = 2
    lookback: float = 10
    long_lookback: float = 120
    long_lookback_every: float = 30
    first_retry: float = 5
    longest_retry: float = 900
    refusals: int = 8
    rejections: int = 3
    give_up: float = 3 * 86_400
    timeout: float = 15
    save: float = 5
    save_idle: float = 600
    term: float = TERM
