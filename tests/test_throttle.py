"""Acting on changes, by a clock that the test moves."""

from collections.abc import Callable

from prefect_executions.background import Throttle


class Time:
    """A clock and what is to be called later."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.acted: list[tuple[float, str]] = []

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self.due.append((self.now + seconds, act))

    def pass_until(self, end: float) -> None:
        while ready := sorted((at for at, _ in self.due if at <= end)):
            at, act = next(chore for chore in self.due if chore[0] == ready[0])
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
