"""The benchmark of figures with a memory: a run in small, and figures that lie are missed."""

import json

import pytest


@pytest.fixture(scope="module")
def memories(benchmark_module):
    return benchmark_module("memories")


def test_a_run_in_small(memories, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memories, "KINDS", ("ppca", "neighbours"))
    monkeypatch.setattr(memories, "ESTIMATORS", ("ppca",))
    monkeypatch.setattr(memories, "truths", lambda width, known=memories.truths: known(width)[:1])
    memories.main(["--quick", "--json", str(tmp_path / "m.json")])
    found = json.loads((tmp_path / "m.json").read_text())
    rows = found["rows"]["memories"]
    assert [row["seen"] for row in rows] == [*memories.SEEN, memories.KIND] * 2
    for row in rows:
        assert 0.6 < row["called 1 in 8"] < 1.4 and (row["steered"] is None) == (row["estimator"] == "neighbours")
    assert rows[7]["seen kind"] < rows[7]["other kind"]
    assert found["rows"]["copies"]["least of exact copies"] == 1
    assert all({"name", "value", "reach", "ok"} == set(target) for target in found["targets"])
    assert "ppca" in capsys.readouterr().out


def test_figures_that_lie_are_missed(memories):
    """A memory that makes pictures newer, and rarer by a factor of two."""
    good = {"estimator": "ppca", "median moved": 0.0, "newer by": 0.0, "steered": 9.9, "seen kind": -0.1, "other kind": 0.1}
    good |= {f"called 1 in {n}": 1.0 for n in memories.CALLED}
    rows = [good | {"seen": seen, "estimator": estimator} for estimator in memories.KINDS for seen in (*memories.SEEN, memories.KIND)]
    copies = {"rises with distance by": 0.0, "least of exact copies": 1.0, "twins move it by": 0.0}
    assert all(target["ok"] for target in memories.reached(rows, [], copies, []))
    rows[5] |= {"called 1 in 64": 2.0, "newer by": 0.4, "median moved": -0.5 + 0.9, "steered": 3.0}
    rows[7] |= {"seen kind": 0.2}
    missed = [target["name"] for target in memories.reached(rows, [], copies | {"twins move it by": 0.1}, []) if not target["ok"]]
    assert len(missed) == 6, missed
