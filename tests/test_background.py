"""The scheduler, the throttle, and threads of our own."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from queue import Queue
from threading import Barrier, Event, Semaphore, Thread, current_thread

import pytest

from prefect_executions.background import THREADS, Scheduler, Throttle, in_thread

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


def _blocking(count: int, held: Event, **options: bool) -> list["asyncio.Future[bool]"]:
    call = asyncio.to_thread if not options else partial(in_thread, **options)
    return [asyncio.ensure_future(call(held.wait, PATIENCE)) for _ in range(count)]


def test_calls_of_the_flow_that_block_are_in_nobodys_way() -> None:
    """`asyncio.to_thread` has some threads for all, of which the flow may use up each."""

    async def main() -> tuple[str, list[bool]]:
        held = Event()
        calls = _blocking(100, held)  # more than there are threads
        name = await asyncio.wait_for(in_thread(lambda: current_thread().name), PATIENCE)
        held.set()
        return name, await asyncio.gather(*calls)

    name, results = asyncio.run(main())

    assert not name.startswith("asyncio")
    assert results == [True] * 100


def test_calls_that_wait_for_people_are_in_nobodys_way() -> None:
    async def main() -> list[bool]:
        held = Event()
        calls = _blocking(THREADS + 1, held, waits=True)
        await asyncio.wait_for(in_thread(held.set), PATIENCE)
        return await asyncio.gather(*calls)

    assert asyncio.run(main()) == [True] * (THREADS + 1)


def test_no_more_calls_are_under_way_than_there_are_threads() -> None:
    async def main() -> int:
        held, begun = Event(), Semaphore(0)

        def wait() -> None:
            begun.release()
            held.wait(PATIENCE)

        calls = [asyncio.ensure_future(in_thread(wait)) for _ in range(2 * THREADS)]
        for _ in range(THREADS):
            await in_thread(begun.acquire, waits=True)
        under_way = sum(not call.done() for call in calls), begun.acquire(blocking=False)
        held.set()
        await asyncio.gather(*calls)
        return under_way[0] if not under_way[1] else 0

    assert asyncio.run(main()) == 2 * THREADS


def test_threads_end_with_the_event_loop() -> None:
    before = set(threading.enumerate())

    async def main() -> None:
        await asyncio.gather(*[in_thread(Event().wait, 0.01) for _ in range(20)])

    asyncio.run(main())

    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_call_that_is_cancelled_goes_on_and_is_not_waited_for() -> None:
    held, done = Event(), Event()

    def act() -> None:
        held.wait(PATIENCE)
        done.set()

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(in_thread(act), 0.05)
        assert not done.is_set()
        held.set()

    asyncio.run(main())

    assert done.wait(PATIENCE)
