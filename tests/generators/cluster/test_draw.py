"""The density of a cluster is that of one process, whoever draws, dies, or begins again."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from rarity import cli
from rarity.density.base.errors import RarityError
from rarity.density.estimators.choose import fit_density
from rarity.density.files.store import load_density, load_embeddings
from rarity.generators import cluster
from rarity.generators.cluster import connect, draw_baseline, shard_folder
from rarity.generators.cluster.shards import Samples, cut_samples
from rarity.generators.cluster.tasks import Job, describe, make_shard
from rarity.generators.cluster.tree import MergeTree

SETTINGS = {"seed": 3, "steps": 2, "guidance": 2.0}
COUNT, SHARD = 24_576, 1024  # more than a density keeps one by one, and more shards than are merged at once


def shards(out):
    return sorted(shard_folder(out).glob("*.safetensors"))


def when(files):
    return {path: path.stat().st_mtime_ns for path in files}


def workers(client):
    return [worker["id"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]


def kill_a_worker(client):
    pids = sorted(client.run(os.getpid).values())
    os.kill(random.choice(pids), signal.SIGKILL)


@pytest.fixture(scope="module")
def whole(tiny_kandinsky):
    """What one process learns."""
    return fit_density(tiny_kandinsky[0].sample_batches("a", COUNT, **SETTINGS))


@pytest.fixture(scope="module")
def drawn(client, tiny_kandinsky_folder, tmp_path_factory):
    """The density's file of three workers, two of which were killed on the way."""
    out = tmp_path_factory.mktemp("drawn") / "usual.safetensors"
    told = []

    def progress(done, total):
        told.append((done, total))
        if done in (5, 12):
            kill_a_worker(client)

    report = draw_baseline(
        tiny_kandinsky_folder, "a", COUNT, out, client=client, shard=SHARD, progress=progress, **SETTINGS
    )
    assert told == [(done, 25) for done in range(26)] and 'Learnt from 24,576 samples of "a".' in report
    return out


def test_it_is_that_of_one_process_though_workers_died(drawn, whole):
    """Keys and counts are exact; sums of float32 products in other groups differ by their rounding, 1e-6 of the spread."""
    density = load_density(drawn)
    assert torch.equal(density.statistics.keys, whole.statistics.keys), "nothing lost, nothing counted twice"
    assert torch.equal(density.statistics.rows, whole.statistics.rows)
    assert (density.count, density.statistics.repeats, density.source) == (whole.count, 0, whole.source)
    torch.testing.assert_close(density.frame.mean, whole.frame.mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(density.frame.spectrum, whole.frame.spectrum, rtol=1e-5, atol=1e-9)
    assert len(shards(drawn)) == 24 and sum(len(load_embeddings(path)) for path in shards(drawn)) == COUNT


def test_not_a_bit_depends_on_how_many_draw_and_in_which_order_they_end(client, drawn, tiny_kandinsky_folder, tmp_path):
    out, again = tmp_path / "one.safetensors", tmp_path / "again.safetensors"
    cluster_of_three = client.cluster
    cluster_of_three.scale(1)
    while len(workers(client)) > 1:
        time.sleep(0.05)
    draw_baseline(tiny_kandinsky_folder, "a", COUNT, out, client=client, shard=SHARD, **SETTINGS)
    assert out.read_bytes() == drawn.read_bytes(), "one worker"
    cluster_of_three.scale(3)

    origin, _ = client.submit(describe, Job(str(tiny_kandinsky_folder), {"prompt": "a", "negative_prompt": "", **SETTINGS})).result()
    pieces = cut_samples(0, COUNT, SHARD)
    tree = MergeTree(client, origin, [(piece, path) for piece, path in zip(pieces, shards(drawn), strict=True)])
    places = list(range(len(pieces)))
    random.Random(0).shuffle(places)
    for place in places:
        tree.take(place, origin.keys(pieces[place].numbers))
    tree.take_the_rest()
    assert tree.rows == COUNT
    tree.learn(again, "ppca", 0, "").result()
    assert again.read_bytes() == drawn.read_bytes(), "another order"


def test_while_all_samples_are_kept_one_process_gives_the_same_bits(client, tiny_kandinsky, tiny_kandinsky_folder, tmp_path):
    out = tmp_path / "few.safetensors"
    draw_baseline(tiny_kandinsky_folder, "a", 700, out, client=client, first=100, shard=256, **SETTINGS)
    assert [path.name[:19] for path in shards(out)] == [
        "000000100-000000255", "000000256-000000511", "000000512-000000767", "000000768-000000799"
    ]
    density = load_density(out)
    parts = [tiny_kandinsky[0].sample_batches("a", stop, first=first, **SETTINGS) for first, stop in
             ((100, 256), (256, 512), (512, 768), (768, 800))]
    alone = fit_density(batch for part in parts for batch in part)
    (fields, tensors), (others, expected) = density.state(), alone.state()
    assert fields == others and all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_finished_shards_are_not_drawn_again(client, drawn, tiny_kandinsky_folder, tmp_path):
    out = tmp_path / "usual.safetensors"
    shutil.copytree(shard_folder(drawn), shard_folder(out))
    gone = shards(out)[7]
    gone.unlink()
    before = when(shards(out))
    draw_baseline(tiny_kandinsky_folder, "a", COUNT + SHARD, out, client=client, shard=SHARD, **SETTINGS)
    after = when(shards(out))
    assert before.items() <= after.items() and len(after) == 25 and gone in after
    assert load_density(out).count == COUNT + SHARD


@pytest.mark.parametrize("changed, message", [
    ({"prompt": "b"}, r"prompt 'a' \(asked for: 'b'\)"),
    ({"steps": 3}, r"steps 2 \(asked for: 3\)"),
    ({"seed": 4}, r"seed 3 \(asked for: 4\)"),
    ({"negative_prompt": "b"}, "negative_prompt ''"),
])
def test_a_shard_of_another_prompt_or_setting_is_refused_by_name(client, drawn, tiny_kandinsky_folder, changed, message):
    before = when(shards(drawn))
    wanted = {"prompt": "a", **SETTINGS, **changed}
    with pytest.raises(RarityError, match=rf"000000000-000001023-\w+.safetensors is of another job: .*{message}"):
        draw_baseline(tiny_kandinsky_folder, count=COUNT, out=drawn, client=client, shard=SHARD, **wanted)
    assert when(shards(drawn)) == before


def test_a_shard_of_another_model_is_refused_by_name(client, drawn, tmp_path):
    from tiny_kandinsky import build_tiny_kandinsky

    other = build_tiny_kandinsky(tmp_path / "other", seed=1)
    with pytest.raises(RarityError, match=r"000000000-000001023-\w+.safetensors is of another job: producer '"):
        draw_baseline(other, "a", COUNT, drawn, client=client, shard=SHARD, **SETTINGS)


def test_files_that_are_not_whole_or_say_something_else_are_refused_by_name(client, drawn, tiny_kandinsky_folder, tmp_path):
    def draw():
        return draw_baseline(tiny_kandinsky_folder, "a", 2 * SHARD, out, client=client, shard=SHARD, **SETTINGS)

    out = tmp_path / "usual.safetensors"
    shard_folder(out).mkdir()
    first, second, *_ = shards(drawn)
    cut = shard_folder(out) / first.name
    cut.write_bytes(first.read_bytes()[:-100])
    with pytest.raises(RarityError, match=f"{first.name} is damaged"):
        draw()
    content = bytearray(first.read_bytes())
    content[-5] ^= 1
    cut.write_bytes(content)
    with pytest.raises(RarityError, match=f"{first.name} is damaged.*does not match its own digest"):
        draw()
    shutil.copy(second, cut)
    with pytest.raises(RarityError, match=f"{first.name} does not hold the samples 0 to 1,023"):
        draw()
    cut.unlink()
    (shard_folder(out) / ".half.tmp").write_bytes(b"a worker died while it wrote")
    draw()
    assert load_density(out).count == 2 * SHARD


@pytest.mark.parametrize("wanted, message", [
    ({"prompt": " "}, "The prompt must be some text"),
    ({"steps": 1}, "The steps must be at least 2"),
    ({"count": 0}, "The count must be at least 1"),
    ({"first": -1}, "first must be 0 or more"),
    ({"shard": 0}, "A shard must hold at least 1, got 0"),
    ({"estimator": "magic"}, "An estimator is one of"),
    ({"model": "nowhere"}, "On .*: .*nowhere"),
])
def test_what_cannot_be_drawn_says_why(client, tiny_kandinsky_folder, tmp_path, wanted, message):
    given = {"model": tiny_kandinsky_folder, "prompt": "a", "count": 50, "out": tmp_path / "x.safetensors", **SETTINGS, **wanted}
    with pytest.raises(RarityError, match=message):
        draw_baseline(client=client, **given)
    assert not given["out"].exists()


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path):
    with pytest.raises(RarityError, match="does not see the folder .*put it on a disk that all of them share"):
        make_shard(Job("any"), Samples(range(3)), tmp_path / "elsewhere" / "x.safetensors", None)


def test_what_progress_raises_ends_the_work_and_keeps_the_shards(client, tiny_kandinsky_folder, tmp_path):
    class Stopped(Exception):
        pass

    def progress(done, total):
        if done == 3:
            raise Stopped

    out = tmp_path / "usual.safetensors"
    with pytest.raises(Stopped):
        draw_baseline(tiny_kandinsky_folder, "a", COUNT, out, client=client, shard=SHARD, progress=progress, **SETTINGS)
    assert len(shards(out)) >= 3 and not out.exists()


def started(folder, out, *where, count=COUNT * 4):
    """`rarity baseline` as a program of its own, when three of its shards are finished; it draws many more."""
    command = ["baseline", "--model", folder, "--prompt", "a", "--count", count, "--steps", 2, "--out", out, *where]
    # A shell's background jobs pass on that they are deaf to Ctrl+C.
    start = (
        "import signal, sys; from rarity.cli import main\n"
        "if __name__ == '__main__': signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", start, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )
    while process.poll() is None and len(shards(out)) < 3:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[1]
    return process


def test_a_client_that_was_killed_goes_on(client, tiny_kandinsky_folder, tmp_path, capsys):
    out, address = tmp_path / "usual.safetensors", client.scheduler.address
    process = started(tiny_kandinsky_folder, out, "--scheduler", address)
    process.kill()
    process.communicate()
    kept = when(shards(out))
    assert not out.exists()
    count = 4096 * len(kept)
    given = ["--prompt", "a", "--count", count, "--steps", 2, "--out", out, "--scheduler", address]
    assert cli.main(["baseline", "--model", str(tiny_kandinsky_folder), *map(str, given)]) == 0
    assert kept.items() <= when(shards(out)).items(), "finished shards are not drawn again"
    assert load_density(out).count == count
    printed = capsys.readouterr()
    assert f"Learnt from {count:,} samples" in printed.out and "Dask's dashboard: http://" in printed.err


@pytest.mark.skipif(sys.platform == "win32", reason="its consoles send Ctrl+C otherwise")
def test_ctrl_c_leaves_a_density_that_says_how_many_samples_it_holds(tiny_kandinsky_folder, tmp_path):
    """As a console does it: to the program and to its workers."""
    out = tmp_path / "usual.safetensors"
    process = started(tiny_kandinsky_folder, out, "--workers", 1)
    os.killpg(process.pid, signal.SIGINT)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    density = load_density(out)
    # A shard whose file is there, and of which the client had not heard yet, is left for the next start.
    assert density.count % 4096 == 0 and 4096 <= density.count <= 4096 * len(shards(out))
    note = f"Stopped after {density.count:,} samples, before all that were asked for."
    assert density.notes[-1] == note and note in printed and f"Written to {out}" in printed


def test_a_scheduler_that_is_not_there_is_a_clear_error(tmp_path, capsys):
    assert cluster.connection.PATIENCE <= 8, "seconds; ten were promised"
    out = str(tmp_path / "x.safetensors")
    assert cli.main(["baseline", "--prompt", "a", "--out", out, "--scheduler", "tcp://127.0.0.1:9"]) == 1
    error = capsys.readouterr().err
    assert "rarity: No scheduler answers at tcp://127.0.0.1:9" in error and "`dask scheduler`" in error and "Traceback" not in error


def test_connections_that_make_no_sense(tmp_path, capsys):
    assert cli.main(["baseline", "--prompt", "a", "--out", str(tmp_path / "x.safetensors"), "--workers", "0"]) == 1
    assert "at least 1 worker, got 0" in capsys.readouterr().err
    with pytest.raises(RarityError, match="at least 1 worker, got 0"), connect(workers=0):
        pass
    with pytest.raises(RarityError, match="No scheduler answers at nonsense"), connect("nonsense"):
        pass


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RarityError, match=r'pip install "rarity-nodes\[cluster\]"'), connect():
        pass
