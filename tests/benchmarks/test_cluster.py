"""The benchmark of the cluster: its table on paper, and what it says of a process. The rest needs minutes of two cores."""

import sys

import pytest

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster(benchmark_module):
    return benchmark_module("cluster")


def test_on_paper_work_is_shared_until_the_shared_disk_is_full(cluster):
    merge = {"a row": 1e-4, "two parts": 1.0, "learning": 10.0}
    one, eight, many = (cluster.on_paper(10_000_000, cards, 0.005, merge) for cards in (1, 8, 64))
    assert one["drawing"] == pytest.approx(10_000_000 * cluster.CARD) and eight["drawing"] == pytest.approx(one["drawing"] / 8)
    assert one["all"] > eight["all"] > many["all"] and one["efficiency"] > eight["efficiency"] > many["efficiency"]
    assert one["what it waits for"] == "drawing" and many["what it waits for"].startswith("the shared disk")
    # 10,000,000 rows of 1,280 float32 and a key, written and read at 1 GB/s
    assert one["the shared disk, written and read"] == pytest.approx(102.6, rel=1e-3)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_is_resident(cluster):
    assert 50 < cluster.resident("VmRSS") <= cluster.resident("VmHWM") < 100_000
