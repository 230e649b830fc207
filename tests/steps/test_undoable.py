"""A call is undone by what the step had when it was called, in whichever process."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prefect import flow, task

from prefect_executions import execution, step
from prefect_executions.errors import ReplayMismatch
from prefect_executions.steps import undoable
from prefect_executions.testkit import TestKit, Trial
from trials import act, ended, made

MODULE = """
from prefect_executions import step
from trials import act

def cancel(result):
    act(f"cancel {NAME} {result}")

@step(undo=cancel)
def book(n: int) -> str:
    return f"{NAME} {n}"
"""

Load = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    another_process(monkeypatch)


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on as in a process that has made no steps yet."""
    monkeypatch.setattr(undoable, "_undoable", {})


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Run a file as a module of some name."""
    loaded = []

    def load(stem: str, name: str | None = None, text: str = MODULE, **values: Any) -> ModuleType:
        path = tmp_path / f"{stem}.py"
        path.write_text(text)
        spec = spec_from_file_location(name or stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        vars(module).update({"NAME": stem} | values)
        sys.modules[module.__name__] = module
        loaded.append(module.__name__)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in loaded:
        sys.modules.pop(name, None)


def once(kit: TestKit, *bodies: Callable[[], Any], is_async: bool = False) -> Trial:
    """Start a flow that calls these, and fails in its first attempt."""

    def body() -> None:
        for each in bodies:
            each()
        if execution.current().attempt == 1:
            raise RuntimeError("first")

    @flow
    @execution
    def sync_flow() -> None:
        body()

    @flow
    @execution
    async def async_flow() -> None:
        body()

    trial = kit.start(async_flow if is_async else sync_flow)
    made.clear()
    return trial


def back(trial: Trial) -> list[str]:
    trial.resume(checkpoint_id="ckpt_000000")
    return made


def refusal(trial: Trial) -> str:
    """What the attempt says that was to undo something, and could not tell what."""
    assert back(trial) == []
    assert isinstance(trial.error, ReplayMismatch), repr(trial.error)
    return str(trial.error)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("called", [0, 1])
def test_of_two_modules_with_steps_of_one_name_the_called_one_is_undone(
    kit: TestKit, load: Load, called: int, is_async: bool
) -> None:
    modules = [load("hotel"), load("flight")]
    name = ["hotel", "flight"][called]

    trial = once(kit, lambda: modules[called].book(1), is_async=is_async)

    assert back(trial) == [f"cancel {name} {name} 1"]
    ended(trial)


def test_a_copy_that_is_never_called_does_not_take_the_place_of_the_original(
    kit: TestKit, load: Load
) -> None:
    hotel = load("hotel")
    hotel.book.with_options(undo=print)
    hotel.book.with_options(undo=None)
    hotel.book.with_options(retries=1)

    assert back(once(kit, lambda: hotel.book(1))) == ["cancel hotel hotel 1"]


def test_a_copy_that_is_called_is_undone_by_its_own(kit: TestKit, load: Load) -> None:
    hotel, other = load("hotel"), load("flight")
    copy = hotel.book.with_options(undo=other.cancel)

    trial = once(kit, lambda: copy(1), lambda: hotel.book(2))

    assert back(trial) == ["cancel hotel hotel 2", "cancel flight hotel 1"]


def test_what_was_called_without_undo_is_not_undone(kit: TestKit, load: Load) -> None:
    hotel = load("hotel")
    copy = hotel.book.with_options(undo=None)

    trial = once(kit, lambda: copy(1))

    assert back(trial) == []
    ended(trial)


@pytest.mark.parametrize(
    ("called_as", "undone_as"),
    [
        ("hotel", "hotel"),
        ("hotel", "__prefect_loader_1__"),
        ("__prefect_loader_1__", "trips.hotel"),
        ("trips.hotel", "hotel"),
    ],
)
def test_another_process_finds_it_however_it_loads_the_module(
    kit: TestKit, load: Load, monkeypatch: pytest.MonkeyPatch, called_as: str, undone_as: str
) -> None:
    hotel = load("hotel", called_as)
    trial = once(kit, lambda: hotel.book(1))

    another_process(monkeypatch)
    load("flight")
    load("hotel", undone_as)

    assert back(trial) == ["cancel hotel hotel 1"]


def test_a_module_loaded_twice_is_one(kit: TestKit, load: Load) -> None:
    load("hotel")
    hotel = load("hotel", "__prefect_loader_1__")

    assert back(once(kit, lambda: hotel.book(1))) == ["cancel hotel hotel 1"]


def test_a_function_that_was_defined_again_is_the_new_one(kit: TestKit, load: Load) -> None:
    hotel = load("hotel")
    trial = once(kit, lambda: hotel.book(1))

    load("hotel", text=MODULE.replace('act(f"', 'act(f"new '))

    assert back(trial) == ["new cancel hotel hotel 1"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        MODULE.replace("undo=cancel", ""),
        MODULE.replace("cancel", "release"),
        MODULE.replace("def book", "def reserve").replace("@step(", "@step(name='book', "),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_this_code_does_not_have_is_refused_before_anything_is_undone(
    kit: TestKit, load: Load, monkeypatch: pytest.MonkeyPatch, text: str, is_async: bool
) -> None:
    hotel, flight = load("hotel"), load("flight")
    trial = once(
        kit, lambda: hotel.book(1), lambda: flight.book.with_options(name="fly")(1),
        is_async=is_async,
    )  # fmt: skip
    another_process(monkeypatch)
    flight = load("flight")
    flight.book.with_options(name="fly")
    load("hotel", text=text)

    error = refusal(trial)

    assert "hotel:book to be undone by hotel:cancel" in error
    assert "flight:book, undone by flight:cancel (line 5 of " in error
    assert "with_options(undo=" in error
    made.clear()
    new = load("hotel")
    new.book.with_options()
    trial.resume()
    assert made == ["cancel flight flight 1", "cancel hotel hotel 1"]


def test_a_copy_that_nobody_calls_is_the_way_out(
    kit: TestKit, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    hotel = load("hotel")
    trial = once(kit, lambda: hotel.book(1))
    another_process(monkeypatch)
    new = MODULE.replace("cancel", "release")
    load("hotel", text=new)
    assert "has hotel:book, undone by hotel:release" in refusal(trial)

    another_process(monkeypatch)
    load(
        "hotel",
        text=new + "\ndef cancel(result): act('as before')\nbook.with_options(undo=cancel)",
    )
    trial.resume()

    assert made == ["as before"]
    ended(trial)


def rooms(room: str) -> Any:
    @step(undo=lambda result: act(f"cancel {room} {result}"))
    def book() -> str:
        return room

    return book


def test_closures_that_can_not_be_told_apart_are_refused_and_named(kit: TestKit) -> None:
    steps = [rooms("a"), rooms("b"), rooms("c")]

    error = refusal(once(kit, steps[1]))

    assert "several of these names" in error
    assert error.count(":rooms.<locals>.book, undone by ") == 2
    assert error.count(":rooms.<locals>.<lambda> (line ") == 2
    assert "of its own name" in error


def test_undos_that_do_the_same_are_one(kit: TestKit) -> None:
    def book() -> str:
        return "x"

    steps = [rooms("a"), rooms("a")]
    objects: Any = [step(undo=Paid("b"), name="other")(book) for _ in range(2)]

    trial = once(kit, steps[0], objects[0])

    assert back(trial) == ["b x", "cancel a a"]


def test_lambdas_of_one_name_are_refused(kit: TestKit) -> None:
    def book() -> str:
        return "booked"

    undos = [lambda _: act("one"), lambda _: act("two")]
    steps: Any = [step(undo=undo)(book) for undo in undos]

    assert "several of these names" in refusal(once(kit, steps[0]))


@dataclass
class Desk:
    """Undoes as a method, a class method or an object."""

    def cancel(self, result: str) -> None:
        act(f"method {result}")

    @classmethod
    def free(cls, result: str) -> None:
        act(f"{cls.__name__} {result}")

    @staticmethod
    def forget(result: str) -> None:
        act(f"static {result}")

    def __call__(self, result: str) -> None:
        act(f"object {result}")

    @step(undo=lambda result: act(f"step {result}"))
    def book(self) -> str:
        return "own"

    @step(undo=lambda result: act(f"class step {result}"))
    @classmethod
    def open(cls) -> str:
        return cls.__name__


class Paid:
    def __init__(self, by: str) -> None:
        self.by = by

    def __call__(self, result: str) -> None:
        act(f"{self.by} {result}")


def cancel(kind: str, result: str, *, why: str = "") -> None:
    act(f"{kind} {result}{why}")


@task
def cancel_task(result: str) -> None:
    act(f"task {result}")


@pytest.mark.parametrize(
    ("undo", "name", "did"),
    [
        (Desk().cancel, "Desk.cancel", "method x"),
        (Desk.free, "Desk.free", "Desk x"),
        (Desk.forget, "Desk.forget", "static x"),
        (Desk(), "Desk", "object x"),
        (partial(cancel, "a", why="!"), "partial(cancel)", "a x!"),
        (cancel_task, "cancel_task", "task x"),
        (partial(partial(cancel, "a")), "partial(cancel)", "a x"),
    ],
)
def test_whatever_undoes_has_a_name(kit: TestKit, undo: Any, name: str, did: str) -> None:
    @step(undo=undo)
    def book() -> str:
        return "x"

    assert (book.undo_by or "").endswith(f"test_undoable:{name}")
    assert back(once(kit, lambda: book())) == [did]


@pytest.mark.parametrize(
    "others",
    [
        [Desk().cancel, Desk().cancel],
        [Paid("a"), Paid("b")],
        [partial(cancel, "a"), partial(cancel, "b")],
        [[].append, [].append],
    ],
)
def test_undos_of_one_name_that_differ_are_refused(kit: TestKit, others: list[Any]) -> None:
    def book() -> str:
        return "x"

    steps: Any = [step(undo=undo)(book) for undo in others]

    assert "several of these names" in refusal(once(kit, steps[1]))


def test_steps_that_are_methods_are_undone(kit: TestKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        undoable, "_undoable", {"book": [vars(Desk)["book"]], "open": [vars(Desk)["open"]]}
    )
    trial = once(kit, lambda: Desk().book(), lambda: Desk.open())

    assert back(trial) == ["class step Desk", "step own"]
    ended(trial)


@task
def takes_two(result: str, why: str) -> None:
    """Not a function that undoes."""


@pytest.mark.parametrize("undo", [Desk.cancel, takes_two, 7, lambda: None])
def test_what_can_not_be_called_with_the_result_is_refused_where_it_is_given(undo: Any) -> None:
    with pytest.raises(TypeError, match=r"^undo: .*'book'"):

        @step(undo=undo)
        def book() -> str:
            return "x"


def test_steps_made_again_and_again_do_not_add_up() -> None:
    for n in range(50):
        rooms(f"{n}").with_options(retries=n)
        rooms("a")

    assert sum(map(len, undoable._undoable.values())) <= 2
