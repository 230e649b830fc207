"""What the page of benchmarks says is what was measured, and each missed goal has its reason."""

import json

from benchmarks.measure import Result
from benchmarks.page import PAGE, RESULTS, page
from benchmarks.reasons import REASONS

DOCUMENT = json.loads(RESULTS.read_text())


def test_the_page_has_the_newest_figures() -> None:
    assert PAGE.read_text() == page(DOCUMENT), "write it anew: python -m benchmarks.page"


def test_each_missed_goal_has_a_reason_and_no_other() -> None:
    missed = {line["name"] for line in DOCUMENT["results"] if Result.of(line).met is False}

    assert missed == REASONS.keys()
