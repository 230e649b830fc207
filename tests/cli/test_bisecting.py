"""`bisect`, against the real service."""

from pathlib import Path

from prefect_executions.client import Client
from rest import KEY
from running import Run, json_of, words


def test_it_names_the_first_bad_checkpoint_and_what_changed(
    run: Run, url: str, tmp_path: Path
) -> None:
    with Client(url, KEY) as client:
        id_ = client.create("a", state={"done": []}).id
        for n in range(40):
            done = [*range(n)] if n < 27 else []
            client.checkpoint(id_, {"done": done, "n": n}, label=f"round {n}", attempt=1)
    check = tmp_path / "check.py"
    check.write_text("def is_bad(state):\n    return len(state['done']) < 3\n")

    told = words(run, "bisect", id_, "--bad", 'len(state["done"]) < state["n"]')
    it = json_of(run, "bisect", id_, "--module", f"{check}:is_bad", "--good", "ckpt_000010")

    assert told.splitlines()[0].startswith("ckpt_000029 round 27 is the first bad one; ckpt_000028")
    assert '"path": "/done' in told
    assert "wavers" not in told
    assert (it["good"]["id"], it["bad"]["id"]) == ("ckpt_000028", "ckpt_000029")
    assert it["bad"]["state"] == {"done": [], "n": 27}
    assert it["loads"] <= 8
    odd = words(run, "bisect", id_, "--bad", 'state["n"] % 2', "--until", "ckpt_000007")
    assert "It wavers near there" in odd


def test_what_can_not_be_looked_for_is_refused(run: Run, url: str, tmp_path: Path) -> None:
    with Client(url, KEY) as client:
        id_ = client.create("a", state={"n": 0}).id
        client.checkpoint(id_, {"n": 1}, attempt=1)
    empty = tmp_path / "empty.py"
    empty.write_text("")

    def refused(*options: str) -> tuple[int, str]:
        code, out, err = run("bisect", id_, *options)
        assert out == ""
        return code, err

    assert refused("--bad", "state['n'] ==")[0] == 2
    assert "one of the two" in refused()[1]
    assert refused("--module", "nowhere.py:f")[0] == 3
    assert "has no function 'f'" in refused("--module", f"{empty}:f")[1]
    assert "is not bad" in refused("--bad", "state['n'] == 7")[1]
    assert "KeyError: 'x'" in refused("--bad", "state['x']")[1]
    assert refused("--bad", "True", "--until", "nonsense")[0] == 3
