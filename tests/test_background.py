"""The scheduler and the throttle."""

from collections.abc import Callable
from queue import Queue
from threading import Barrier, Event, Thread

import pytest

from prefect_executions.background import Scheduler, Throttle

PATIENCE = 30


def test_it_goes_on_until_it_is_stopped() -> None:
    called: Queue[int] = Queue()
    scheduler = Scheduler("scheduler")
    scheduler.every(0.01, lambda: called.put(1), at_once=True)

    for _ in range(5):
        called.get(timeout=PATIENCE)
    scheduler.stop()
    scheduler.join(PATIENCE)

    left = called.qsize()
    assert not scheduler.is_alive()
    assert called.qsize() == left


def test_what_is_added_later_and_due_sooner_comes_first() -> None:
    order: Queue[str] = Queue()
    scheduler = Scheduler("scheduler")
    scheduler.after(3, lambda: order.put("late"))
    scheduler.after(0, lambda: order.put("soon"))

    assert [order.get(timeout=PATIENCE) for _ in range(2)] == ["soon", "late"]
    scheduler.stop()


def test_what_is_called_can_add_more() -> None:
    done = Event()
    scheduler = Scheduler("scheduler")
    scheduler.after(0, lambda: scheduler.after(0, done.set))

    assert done.wait(PATIENCE)
    scheduler.stop()


def test_what_fails_is_not_in_the_others_way(caplog: pytest.LogCaptureFixture) -> None:
    done = Event()
    scheduler = Scheduler("scheduler")
    scheduler.after(0, lambda: print(1 / 0))
    scheduler.after(0.01, done.set)

    assert done.wait(PATIENCE)
    assert "division by zero" in caplog.text
    scheduler.stop()


@pytest.mark.parametrize("_", range(50))
def test_many_threads_may_begin_with_it_at_once(_: int) -> None:
    called: Queue[int] = Queue()
    scheduler, start = Scheduler("scheduler"), Barrier(4)

    def add(n: int) -> None:
        start.wait()
        scheduler.after(0, lambda: called.put(n))

    threads = [Thread(target=add, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()

    assert {called.get(timeout=PATIENCE) for _ in threads} == {0, 1, 2, 3}
    scheduler.stop()


def test_after_its_end_it_begins_no_more() -> None:
    scheduler = Scheduler("scheduler")
    scheduler.after(0, lambda: None)
    scheduler.stop()
    scheduler.join(PATIENCE)

    scheduler.after(0, lambda: None)

    assert not scheduler.is_alive()


class Time:
    """A clock, and the functions that are due later."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.acted: list[tuple[float, str]] = []

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self.due.append((self.now + seconds, act))

    def pass_until(self, end: float) -> None:
        while ready := sorted((at for at, _ in self.due if at <= end)):
            at, act = next(job for job in self.due if job[0] == ready[0])
            self.due.remove((at, act))
            self.now = max(at, self.now)
            act()
        self.now = end

    def throttle(self) -> Throttle[str]:
        def act(key: str) -> None:
            self.acted.append((self.now, key))

        return Throttle(self.later, act, every=5, first=1, clock=lambda: self.now)


def test_many_changes_are_one_act_in_five_seconds_and_the_last_one_counts() -> None:
    time = Time()
    throttle = time.throttle()

    for tenth in range(100):
        time.pass_until(tenth / 10)
        throttle.changed("a")
    time.pass_until(60)

    assert time.acted == [(1, "a"), (6, "a"), (11, "a")]


def test_each_key_has_its_own_time() -> None:
    time = Time()
    throttle = time.throttle()

    throttle.changed("a")
    time.pass_until(2)
    throttle.changed("b")
    throttle.changed("a")
    time.pass_until(60)

    assert time.acted == [(1, "a"), (3, "b"), (6, "a")]


def test_what_has_been_quiet_for_long_acts_soon() -> None:
    time = Time()
    throttle = time.throttle()

    throttle.changed("a")
    time.pass_until(100)
    throttle.changed("a")
    time.pass_until(200)

    assert time.acted == [(1, "a"), (101, "a")]


def test_what_waits_is_done_at_the_end_and_once() -> None:
    time = Time()
    throttle = time.throttle()
    throttle.changed("a")

    throttle.close()
    time.pass_until(60)

    assert time.acted == [(0, "a")]


def test_nothing_waits_after_the_end() -> None:
    time = Time()
    throttle = time.throttle()
    throttle.changed("a")
    throttle.close()

    throttle.changed("a")

    assert time.acted == [(0, "a"), (0, "a")]
    time.pass_until(60)
    assert time.acted == [(0, "a"), (0, "a")]
