"""Executions that leave one store as a file, and go on in another."""

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from pydantic import BaseModel

from prefect_executions import execution, step
from prefect_executions.errors import ArchiveError, DeploymentNotFound, ExecutionNotFound
from prefect_executions.executions.archives import Importing, export
from prefect_executions.executions.creation import Creation
from prefect_executions.executions.executions import Executions
from prefect_executions.ids import execution_id
from prefect_executions.log.archive import Archive, stored_entries
from prefect_executions.log.pruning import prune
from prefect_executions.log.redaction import RedactedPath
from prefect_executions.models import ExecutionFilter
from prefect_executions.prefect.flow_runs import FlowRuns
from prefect_executions.storage.objects import MemoryObjects
from prefect_executions.testkit import TestKit, Trial
from prefect_executions.testkit.processes import Crash

calls: list[str] = []


class Approval(BaseModel):
    approved: bool


@step
def look(at: str) -> str:
    calls.append(at)
    return at.upper()


@flow
@execution
def survey(pages: list[str]) -> list[str]:
    run = execution.current()
    found = []
    for page in pages:
        found.append(look(page))
        run.state[page] = found[-1]
        run.checkpoint(label=page)
    run.ask(Approval, prompt="Right?")
    return found


class Elsewhere:
    """Another store, and what Prefect knows of it."""

    def __init__(self, kit: TestKit, objects: MemoryObjects) -> None:
        self.objects = objects
        flow_runs = FlowRuns(kit._client, store=uuid4().hex, wait=lambda _: None)
        self.executions = Executions(objects, flow_runs, wait=lambda _: None)
        self.importing = Importing(Creation(self.executions))

    def all(self) -> list[str]:
        return [item.id for item in self.executions.search(ExecutionFilter()).items]


@pytest.fixture
def elsewhere(kit: TestKit) -> Elsewhere:
    return Elsewhere(kit, MemoryObjects())


@pytest.fixture
def trial(kit: TestKit) -> Trial:
    """One that has recorded two steps, and asks."""
    calls.clear()
    return kit.start(survey, pages=["one", "two"])


def exported(kit: TestKit, trial: Trial) -> io.BytesIO:
    file = io.BytesIO()
    export(kit.executions, trial.id, file)
    return file


def test_it_has_the_same_bytes_elsewhere_and_exports_the_same(
    kit: TestKit, trial: Trial, elsewhere: Elsewhere
) -> None:
    file = exported(kit, trial)

    made, is_new = elsewhere.importing.load(file)

    assert is_new
    assert (made.name, made.status, made.state) == ("survey", "paused", trial.state)
    log = elsewhere.executions.log(made.id)
    assert list(stored_entries(log)) == list(stored_entries(kit.executions.log(trial.id)))
    again = io.BytesIO()
    export(elsewhere.executions, made.id, again)
    entries = file.getvalue().index(b"log/000000000")
    sums = again.getvalue().index(b"SHA256SUMS")
    assert file.getvalue()[entries:sums] == again.getvalue()[entries:sums]


def test_it_goes_on_there_with_what_was_recorded(
    kit: TestKit, trial: Trial, elsewhere: Elsewhere
) -> None:
    made, _ = elsewhere.importing.load(exported(kit, trial))
    kit._processes._objects = elsewhere.objects
    there = Trial(elsewhere.executions, kit._processes, survey, made)

    there.resume()
    assert there.status == "paused"  # it asks here, too
    there.resume(input={"approved": True})

    assert (there.result, calls) == (["ONE", "TWO"], ["one", "two"])


def goes_on(kit: TestKit, there: Elsewhere, file: io.BytesIO) -> Trial:
    """The execution that is made of a file, after it was resumed and answered."""
    made, _ = there.importing.load(file)
    kit._processes._objects = there.objects
    trial = Trial(there.executions, kit._processes, survey, made)
    trial.resume()
    trial.resume(input={"approved": True})
    return trial


def test_a_log_of_which_old_entries_were_removed_goes_on_there(
    kit: TestKit, elsewhere: Elsewhere
) -> None:
    calls.clear()
    pages = [f"page {n}" for n in range(30)]
    trial = kit.start(survey, pages=pages)
    log = kit.executions.log(trial.id)
    later = datetime.now(UTC) + timedelta(days=1)
    assert prune(log, newest=1, labelled=False, also=(), before=later) > 0

    there = goes_on(kit, elsewhere, exported(kit, trial))

    assert (there.result, calls) == ([page.upper() for page in pages], pages)
    assert elsewhere.executions.log(there.id).is_pruned()


def test_without_some_values_it_goes_on_with_what_was_recorded_of_the_others(
    kit: TestKit, trial: Trial, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    file = io.BytesIO()
    paths = [RedactedPath("/state/*"), RedactedPath("/results/look")]
    export(kit.executions, trial.id, file, redact=paths)
    (saved := tmp_path / "task.tar").write_bytes(file.getvalue())

    again = kit.replay(survey, saved)
    there = goes_on(kit, elsewhere, file)

    assert again.state == there.state == {"one": "[redacted]", "two": "[redacted]"}
    assert there.result == ["[redacted]", "[redacted]"]
    assert calls == ["one", "two"]


def test_without_some_parameters_it_says_which(kit: TestKit, trial: Trial) -> None:
    file = io.BytesIO()
    export(kit.executions, trial.id, file, redact=[RedactedPath("/parameters/pages/1")])

    facts = Archive(io.BytesIO(file.getvalue())).facts
    assert facts["parameters"] == {"pages": ["one", "[redacted]"]}
    assert facts["redacted"] == ["/parameters/pages/1"]


def test_a_file_that_was_to_be_redacted_where_nothing_is_has_no_end(
    kit: TestKit, trial: Trial, elsewhere: Elsewhere
) -> None:
    file = io.BytesIO()
    with pytest.raises(ArchiveError, match="/state/three"):
        export(kit.executions, trial.id, file, redact=[RedactedPath("/state/three")])

    with pytest.raises(ArchiveError):
        elsewhere.importing.load(file)
    assert elsewhere.all() == []


def test_what_has_ended_has_ended_there_and_the_same_file_is_one_execution(
    kit: TestKit, trial: Trial, elsewhere: Elsewhere
) -> None:
    trial.resume(input={"approved": True})
    file = exported(kit, trial)

    made, _ = elsewhere.importing.load(file)
    again, is_new = elsewhere.importing.load(file)

    assert (made.status, made.result) == ("completed", ["ONE", "TWO"])
    assert (again.id, is_new) == (made.id, False)
    assert elsewhere.all() == [made.id]


def test_what_is_damaged_or_has_nobody_to_run_it_makes_nothing(
    kit: TestKit, trial: Trial, elsewhere: Elsewhere
) -> None:
    data = bytearray(exported(kit, trial).getvalue())
    data[data.index(b"log/000000003") + 600] ^= 1
    with pytest.raises(ArchiveError):
        elsewhere.importing.load(io.BytesIO(bytes(data)))
    with pytest.raises(DeploymentNotFound):
        elsewhere.importing.load(exported(kit, trial), deployment="nobody/nowhere")
    with pytest.raises(ExecutionNotFound):
        export(kit.executions, f"exec_{uuid4().hex}", io.BytesIO())
    survivor = io.BytesIO()
    export(kit.executions, trial.id, survivor)

    assert elsewhere.all() == []
    assert list(elsewhere.objects.scan("")) == []
    assert elsewhere.executions.flow_runs.being_created() == []


class Dying(MemoryObjects):
    """A store whose caller dies before or after its `n`th write."""

    def __init__(self, n: int, *, after: bool) -> None:
        super().__init__()
        self.left, self.after = n, after

    def create(self, key: str, data: bytes) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Crash
        super().create(key, data)
        if self.left == 0:
            raise Crash


@pytest.mark.parametrize("again_first", [False, True], ids=["supervisor", "again"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_write_an_import_is_whole_or_not_there(
    kit: TestKit, trial: Trial, prefect: SyncPrefectClient, after: bool, again_first: bool
) -> None:
    file = exported(kit, trial)
    entries = list(stored_entries(kit.executions.log(trial.id)))
    for n in (1, len(entries) // 2, len(entries) - 1, len(entries)):
        elsewhere = Elsewhere(kit, Dying(n, after=after))
        with pytest.raises(Crash):
            elsewhere.importing.load(file)
        assert elsewhere.all() == []
        [left] = elsewhere.executions.flow_runs.being_created()
        with pytest.raises(ExecutionNotFound):
            elsewhere.executions.get(execution_id(left.id))

        if not again_first:
            elsewhere.importing.creation.finish(left)
            is_whole = after and n == len(entries)
            assert len(elsewhere.all()) == is_whole
            assert bool(list(elsewhere.objects.scan(""))) == is_whole
        made, _ = elsewhere.importing.load(file)

        assert elsewhere.all() == [made.id]
        assert made.status == "paused"
        assert list(stored_entries(elsewhere.executions.log(made.id))) == entries
        assert elsewhere.executions.flow_runs.being_created() == []
