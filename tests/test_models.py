"""Values and ids."""

from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from prefect_executions.config import ExecutionConfig
from prefect_executions.errors import CheckpointNotFound, ExecutionNotFound
from prefect_executions.ids import checkpoint_id, checkpoint_seq, execution_id, flow_run_id
from prefect_executions.models import Execution

DOCUMENTED = (
    "id name description agent_id task_type status state checkpoints config elapsed_seconds "
    "created_at started_at completed_at updated_at"
)


def test_the_execution_has_the_documented_fields() -> None:
    assert set(Execution.model_fields) >= set(DOCUMENTED.split())


def test_an_executions_id_is_its_flow_runs() -> None:
    run_id = uuid4()

    assert execution_id(run_id) == f"exec_{run_id.hex}"
    assert flow_run_id(execution_id(run_id)) == run_id


@pytest.mark.parametrize(
    "wrong", ["", "exec_", "exec_1", f"exec_{UUID(int=0)}", "EXEC_" + "0" * 32, "exec_" + "G" * 32]
)
def test_what_is_no_executions_id_names_no_execution(wrong: str) -> None:
    with pytest.raises(ExecutionNotFound):
        flow_run_id(wrong)


@pytest.mark.parametrize(
    ("seq", "name"), [(0, "ckpt_000000"), (42, "ckpt_000042"), (1_234_567, "ckpt_1234567")]
)
def test_a_checkpoints_id_is_its_number(seq: int, name: str) -> None:
    assert checkpoint_id(seq) == name
    assert checkpoint_seq("exec", name) == seq


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "42",
        "ckpt_42",
        "ckpt_0000042",
        "ckpt_-00001",
        "ckpt_\u0663\u0663\u0663\u0663\u0663\u0663",
    ],
)
def test_what_is_no_checkpoints_id_names_no_checkpoint(wrong: str) -> None:
    with pytest.raises(CheckpointNotFound):
        checkpoint_seq("exec", wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_duration_seconds": 0},
        {"checkpoint_interval_seconds": float("nan")},
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"retry_delay_seconds": float("inf")},
        {"max_retry": 1},
    ],
    ids=str,
)
def test_a_wrong_config_is_refused_with_the_field(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError) as refusal:
        ExecutionConfig.model_validate(wrong)

    assert [error["loc"] for error in refusal.value.errors()] == [tuple(wrong)]
