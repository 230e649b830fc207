"""How far a webhook has been delivered, kept in its block."""

from datetime import UTC, datetime, timedelta
from math import inf
from time import monotonic
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument
from prefect.events.schemas.events import ReceivedEvent

from prefect_executions.blocks.documents import write
from prefect_executions.blocks.webhook import ExecutionWebhook
from prefect_executions.webhooks.timing import Timing

_KEPT_IDS = 1_000


class Cursor:
    """How far a webhook has been delivered: the newest event, and the ids of the last ones.

    The ids matter because events may reach Prefect late: each read goes back some time before the
    newest event, and skips what was handled before.

    Args:
        client: Prefect's.
        document: The webhook's block document, which the cursor is written to.
        webhook: The block in it, with the cursor that was written last.
        timing: How often it is written, and how long ids are kept.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        document: BlockDocument,
        webhook: ExecutionWebhook,
        *,
        timing: Timing,
    ) -> None:
        self._client = client
        self._id = document.id
        self._timing = timing
        self.begins = document.created or datetime.now(UTC)
        self.position = webhook.delivered_until or self.begins
        # When each event occurred. The block has no times: ids from there count as the newest.
        self._handled = dict.fromkeys(webhook.delivered, self.position)
        self._delivered = set(self._handled)
        self._saved = self.position
        self._saved_at = -inf
        self._unsaved = False  # whether something was delivered since it was saved

    def __contains__(self, id_: UUID) -> bool:
        """Whether the event with this id was handled."""
        return id_ in self._handled

    def handled(self, event: ReceivedEvent, *, delivered: bool) -> None:
        """Note that an event was delivered, dropped, or of no interest to this webhook.

        Args:
            event: The event.
            delivered: Whether its message was posted or dropped: the block keeps the ids of these.
        """
        if delivered:
            self._delivered.add(event.id)
            self._unsaved = True
        self._handled[event.id] = event.occurred
        self.position = max(self.position, event.occurred)

    def save(self, *, at_once: bool = False) -> None:
        """Write the cursor to the block, if that is due.

        Raises:
            PrefectUnavailable: it could not be written.
        """
        if self.position == self._saved and not self._unsaved:
            return
        age = monotonic() - self._saved_at
        if not at_once and age < (self._timing.save if self._unsaved else self._timing.save_idle):
            return
        ids = [id_.hex for id_ in self._handled if id_ in self._delivered]
        write(
            self._client,
            self._id,
            delivered_until=self.position.isoformat(),
            delivered=ids[-_KEPT_IDS:],
        )
        self._saved, self._saved_at, self._unsaved = self.position, monotonic(), False

    def forget(self) -> None:
        """Forget the events that are too old to be read again."""
        oldest = self.position - timedelta(seconds=self._timing.long_lookback)
        self._handled = {id_: at for id_, at in self._handled.items() if at >= oldest}
        self._delivered.intersection_update(self._handled)
