"""The thread that does things at their times."""

from queue import Queue
from threading import Event

from prefect_executions.pacer import Pacer

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
    pacer.after(0.5, lambda: order.put("late"))
    pacer.after(0, lambda: order.put("soon"))

    assert [order.get(timeout=PATIENCE) for _ in range(2)] == ["soon", "late"]
    pacer.stop()


def test_what_is_called_can_add_more() -> None:
    done = Event()
    pacer = Pacer("pacer")
    pacer.after(0, lambda: pacer.after(0, done.set))

    assert done.wait(PATIENCE)
    pacer.stop()
