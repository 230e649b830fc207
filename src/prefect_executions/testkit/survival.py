"""Crashing a flow at each of its points, and comparing with the undisturbed run."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from prefect_executions.errors import ExecutionError
from prefect_executions.executions.executions import Executions
from prefect_executions.executions.families import awaited_by
from prefect_executions.prefect.pauses import asks_for_checkpoint
from prefect_executions.prefect.states import state_of
from prefect_executions.testkit.comparison import Divergence, differences, unsteady_steps
from prefect_executions.testkit.observation import Observed, Witness
from prefect_executions.testkit.processes import Death, Processes
from prefect_executions.testkit.trial import Trial


@dataclass(frozen=True)
class Survival:
    """What `crash_everywhere` has tried.

    Args:
        undisturbed: The run without a crash.
        points: Where a process was killed, in words.
    """

    undisturbed: Trial
    points: list[str]


@dataclass(frozen=True)
class Point:
    """Where a process is to die.

    Args:
        n: At which write, from 1.
        is_lost: Whether before it; otherwise right after it.
    """

    n: int
    is_lost: bool

    def describe(self, now: Observed, undisturbed: Observed) -> str:
        """The point in words, where a process has died in a run."""
        last = now.writes[now.died_after - 1] if now.died_after else "nothing"
        after = now.died_after or 0
        following = undisturbed.writes[after] if after < len(undisturbed.writes) else "the end"
        if self.is_lost:
            return f"before {following} was durable, after {last}"
        return f"after {last}, before {following}"


class CrashTest:
    """Runs a flow undisturbed, and once more for each point at which it is killed.

    Args:
        name: The name of the flow.
        start: Starts it.
        executions: The executions of the test.
        processes: The processes of the test.
        answers: What its questions are answered, in their order.
        check: Called with each trial that has ended.
        compare: Returns what has to be the same, by what it is.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Trial],
        executions: Executions,
        processes: Processes,
        *,
        answers: Iterable[Any],
        check: Callable[[Trial], object],
        compare: Callable[[Trial], dict[str, Any]],
    ) -> None:
        self._name = name
        self._start = start
        self._executions = executions
        self._processes = processes
        self._answers = list(answers)
        self._check = check
        self._compare = compare

    def run(self, *, points: int | None, lose_writes: bool) -> Survival:
        """Run it, and compare.

        Args:
            points: How many points are tried at most, evenly spread; None for all.
            lose_writes: Whether processes die before each write, too.

        Raises:
            AssertionError: the flow comes to something else after a crash, or does not complete.
        """
        if points is not None and points < 1:
            raise ValueError(f"points: {points} are none; give 1 or more, or None for all")
        undisturbed = self._observe()
        self._require_sound(undisturbed)
        self._check(undisturbed.trial)
        reached = []
        for point in _spread(len(undisturbed.writes), points, lose_writes):
            now = self._observe(point, pauses=len(undisturbed.asked))
            if now.died_after is None:  # steps that ended at once shared an entry this time
                continue
            where = point.describe(now, undisturbed)
            if found := differences(now, undisturbed):
                self._require_steady(undisturbed)
                raise AssertionError(self._report(where, found)) from now.error or now.trial.error
            self._check_after(now, where)
            reached.append(where)
        return Survival(undisturbed.trial, reached)

    def _observe(self, point: Point | None = None, *, pauses: int | None = None) -> Observed:
        """Run the flow to its end; killed at a point, and resumed."""
        witness = Witness(self._executions.log)
        death = Death(0 if point is None else point.n, lambda: len(witness.writes))
        with ExitStack() as stack:
            stack.enter_context(self._processes.having_written(witness, first=True))
            if point is not None and point.is_lost:
                stack.enter_context(self._processes.before_writing(death))
            else:
                stack.enter_context(self._processes.having_written(death))
            trial = self._start()
            asked, unanswered, error = self._drive(trial, death, pauses)
        return Observed(
            trial=trial,
            writes=witness.writes,
            done=witness.done,
            asked=[witness.without_ids(text) for text in asked],
            unanswered=unanswered,
            died_after=death.at,
            error=error,
            values={name: witness.plainly(value) for name, value in self._compare(trial).items()},
        )

    def _drive(
        self, trial: Trial, death: Death, pauses: int | None
    ) -> tuple[list[str], bool, ExecutionError | None]:
        """Answer its questions, end its pauses, and resume it once it has died.

        Returns:
            What it has paused for, whether once more than is provided for, and what went wrong.
        """
        asked: list[str] = []
        answers = iter(self._answers)
        resumed = False
        try:
            while (status := trial.status) in ("paused", "failed"):
                if status == "failed":
                    if death.at is None or resumed:
                        break
                    resumed = True
                    trial.resume()
                    continue
                run = awaited_by(self._executions.flow_runs, self._processes.read(trial.id))
                state = state_of(run)
                is_question = bool(state.state_details.run_input_keyset)
                is_question = is_question and not asks_for_checkpoint(state)
                asked.append(f"the {'question' if is_question else 'pause'} {state.message!r}")
                answer = next(answers, _NONE) if is_question else None
                if answer is _NONE or (pauses is not None and len(asked) > pauses):
                    return asked, True, None
                trial.resume(input=answer)
        except ExecutionError as error:
            if death.at is None:
                raise
            return asked, False, error
        return asked, False, None

    def _require_sound(self, run: Observed) -> None:
        """Check that the undisturbed run is one to compare with."""
        problem = None
        questions = sum(text.startswith("the question") for text in run.asked)
        if run.unanswered:
            problem = (
                f"it asks {run.asked[-1]}, and there is no answer left: `answers` needs one for "
                "each question, in the order in which they are asked"
            )
        elif run.trial.status != "completed":
            error = f"{type(run.trial.error).__name__}: {run.trial.error}"
            problem = f"it is {run.trial.status}, without any crash: {error}"
        elif questions < len(self._answers):
            problem = (
                f"it has asked {questions} questions, and `answers` has {len(self._answers)} "
                "answers. Where it should have asked more, it took an old answer for a new "
                "question: give each question a key, or a text of its own"
            )
        elif not run.has_saved:
            problem = (
                "it saves nothing before it ends, so a crash begins it anew: put what is costly "
                "or has effects into steps, or save its progress with `run.checkpoint()`"
            )
        if problem is not None:
            raise AssertionError(f"{self._name}: {problem}.") from run.trial.error

    def _require_steady(self, undisturbed: Observed) -> None:
        """Check that the flow comes to the same if it is run undisturbed once more."""
        again = self._observe(pauses=len(undisturbed.asked))
        if not (found := differences(again, undisturbed)):
            return
        steps = (
            ", ".join(map(repr, unsteady_steps(again, undisturbed))) or "no step, but code between"
        )
        raise AssertionError(
            f"{self._name} comes to something else each time, without any crash, so that a crash "
            f"can't be judged:\n{_listed(found)}\nOther values came from: {steps}. In the test let "
            "it return the same each time, and begin each run alike (`before`)."
        )

    def _check_after(self, now: Observed, where: str) -> None:
        try:
            self._check(now.trial)
        except AssertionError as error:
            raise AssertionError(
                f"{self._name}, killed {where}: the check of the test fails: {error}"
            ) from error

    def _report(self, where: str, found: list[Divergence]) -> str:
        return (
            f"{self._name}, killed {where}, and resumed:\n{_listed(found)}\n"
            f"Likely way out: {found[0].way_out}"
        )


_NONE = object()


def _spread(writes: int, points: int | None, lose_writes: bool) -> list[Point]:
    """The points of a run with so many writes, or some of them, evenly spread."""
    kinds = (True, False) if lose_writes else (False,)
    every = [Point(n, is_lost) for n in range(1, writes + 1) for is_lost in kinds]
    if points is None or points >= len(every):
        return every
    return [every[(2 * n + 1) * len(every) // (2 * points)] for n in range(points)]


def _listed(found: list[Divergence]) -> str:
    return "\n".join(f"- {difference.what}" for difference in found)
