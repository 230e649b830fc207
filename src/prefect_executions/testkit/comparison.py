"""How a run that has crashed differs from the undisturbed one, and what is likely to help."""

from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest

from prefect_executions.log.journal import Record
from prefect_executions.testkit.observation import Observed

_SHOWN = 300  # characters of a value


@dataclass(frozen=True)
class Divergence:
    """One thing that differs.

    Args:
        what: What differs, in words.
        way_out: What is likely to help.
    """

    what: str
    way_out: str


def differences(now: Observed, undisturbed: Observed) -> list[Divergence]:
    """How a run differs from the undisturbed one; the likeliest cause comes first."""
    return [
        *_in_questions(now, undisturbed),
        *_in_steps(now, undisturbed),
        *_in_the_end(now, undisturbed),
    ]


def _in_questions(now: Observed, undisturbed: Observed) -> list[Divergence]:
    if now.asked == undisturbed.asked:
        return []
    if now.trial.status == "failed":  # it has not come so far
        return []
    at = next(n for n, (a, b) in enumerate(zip_longest(now.asked, undisturbed.asked)) if a != b)
    here = _nth(now.asked, at)
    there = _nth(undisturbed.asked, at)
    return [
        Divergence(
            f"it paused {len(now.asked)} times rather than {len(undisturbed.asked)}; number "
            f"{at + 1} was {here}, and {there} in the undisturbed run",
            "Each question and pause needs a key or a text of its own, the same in every run; ask "
            "only where the state does not have the answer yet.",
        )
    ]


def _in_steps(now: Observed, undisturbed: Observed) -> list[Divergence]:
    if now.trial.status == "failed":
        return []
    found = []
    here, there = now.done_by_step(), undisturbed.done_by_step()
    for step in dict.fromkeys([*there, *here]):
        records, before = here.get(step, []), there.get(step, [])
        if len(records) != len(before):
            found.append(
                Divergence(
                    f"the step {step!r} was carried out and recorded {_times(len(records))}, and "
                    f"{_times(len(before))} in the undisturbed run",
                    _way_out_of_counts(step, records, before),
                )
            )
    return found


def _way_out_of_counts(step: str, here: list[Record], there: list[Record]) -> str:
    if len(here) > len(there):
        if len(_calls(here)) > len(_calls(there)):
            return (
                f"{step!r} was called with other inputs after the crash, so it was another call. "
                "What differs from run to run (time, chance, a new id) belongs in a step or in the "
                f"state; or give the step a key, @step(key=…)."
            )
        return (
            f"{step!r} ran again though its result was recorded. Give the step a key, "
            "@step(key=…), or an input that tells its calls apart."
        )
    if max(_calls(there).values()) > 1:
        return (
            f"After the crash a call of {step!r} got the recorded result of an equal one. Give the "
            "step a key, @step(key=…), or an input that tells its calls apart."
        )
    return (
        f"After the crash {step!r} was skipped, though it had not returned. Save that something is "
        "done when it is done: the checkpoint comes after the step."
    )


def _calls(records: list[Record]) -> Counter[tuple[int, str]]:
    return Counter((record.parent, record.key) for record in records)


def _in_the_end(now: Observed, undisturbed: Observed) -> list[Divergence]:
    status, error = now.trial.status, now.error or now.trial.error
    if error is not None or status != undisturbed.trial.status:
        if now.unanswered:
            return []  # said already: it has paused once more
        return [
            Divergence(
                f"it is {status}: {error!r}",
                "Resumed after the crash, the flow does not come to an end; see the error. What "
                "it needs then has to be in the state, or come from a step.",
            )
        ]
    way_out = (
        "Code between steps runs again after a crash. Change the state only where the state says "
        "that it has not been done, or in what a step returns; and keep nothing in variables "
        "outside the flow."
    )
    if steps := unsteady_steps(now, undisturbed):
        way_out = (
            f"Other values came from: {', '.join(map(repr, steps))}. Carried out again, since the "
            "record was lost, a stand-in in a test returns the same as before."
        )
    return [
        Divergence(f"{name} is {_short(here)}, and {_short(there)} in the undisturbed run", way_out)
        for name, there in undisturbed.values.items()
        if (here := now.values[name]) != there
    ]


def unsteady_steps(one: Observed, other: Observed) -> list[str]:
    """The names of the steps that did not return the same in two runs."""
    here, there = one.done_by_step(), other.done_by_step()
    return [
        step
        for step in dict.fromkeys([*here, *there])
        if _results(one, here.get(step, [])) != _results(other, there.get(step, []))
    ]


def _results(run: Observed, records: list[Record]) -> Counter[str]:
    return Counter(
        record.large.sha256
        if record.large is not None
        else (record.result or b"").decode().replace(run.trial.id, "")
        for record in records
    )


def _nth(texts: list[str], n: int) -> str:
    return texts[n] if n < len(texts) else "none"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
