"""The thread that does things at their times."""

from queue import Queue
from threading import Barrier, Event, Thread

import pytest

from prefect_executions.background import Pacer

PATIENCE = 30


def test_it_goes_on_until_it_is_stopped() -> None:
    called: Queue[int] = Queue()
    pacer = Pacer("pacer")
    pacer.every(0.01, lambda: called.put(1), at_once=True)

    for _ in range(5):
        called.get(timeout=PATIENCE)
    pacer.stop()
    pacer.join(PATIENCE)

    left = called.qsize()
    assert not pacer.is_alive()
    assert called.qsize() == left


def test_what_is_added_later_and_due_sooner_comes_first() -> None:
    order: Queue[str] = Queue()
    pacer = Pacer("pacer")
    pacer.after(3, lambda: order.put("late"))
    pacer.after(0, lambda: order.put("soon"))

    assert [order.get(timeout=PATIENCE) for _ in range(2)] == ["soon", "late"]
    pacer.stop()


def test_what_is_called_can_add_more() -> None:
    done = Event()
    pacer = Pacer("pacer")
    pacer.after(0, lambda: pacer.after(0, done.set))

    assert done.wait(PATIENCE)
    pacer.stop()


def test_what_fails_is_not_in_the_others_way(caplog: pytest.LogCaptureFixture) -> None:
    done = Event()
    pacer = Pacer("pacer")
    pacer.after(0, lambda: print(1 / 0))
    pacer.after(0.01, done.set)

    assert done.wait(PATIENCE)
    assert "division by zero" in caplog.text
    pacer.stop()


@pytest.mark.parametrize("_", range(50))
def test_many_threads_may_begin_with_it_at_once(_: int) -> None:
    called: Queue[int] = Queue()
    pacer, start = Pacer("pacer"), Barrier(4)

    def add(n: int) -> None:
        start.wait()
        pacer.after(0, lambda: called.put(n))

    threads = [Thread(target=add, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()

    assert {called.get(timeout=PATIENCE) for _ in threads} == {0, 1, 2, 3}
    pacer.stop()


def test_after_its_end_it_begins_no_more() -> None:
    pacer = Pacer("pacer")
    pacer.after(0, lambda: None)
    pacer.stop()
    pacer.join(PATIENCE)

    pacer.after(0, lambda: None)

    assert not pacer.is_alive()
