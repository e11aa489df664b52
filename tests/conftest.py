"""What several folders of tests share; which tests run together; on which ComfyUIs they ran."""

import os
import re
from collections import Counter

import pytest

# A processor on which torch's own kernels do without AVX-512 has none for oneDNN either. torch's attention in half precision asks
# oneDNN which there are: told of them on one side only, it calls what the other refuses ("pack_vnni2 is only supported ...").
if os.environ.get("ATEN_CPU_CAPABILITY") in ("default", "avx2"):
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """What runs in one process: all tests of a room on one ComfyUI, which share its servers; of the others, those of one file."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, comfyui = nodeid.split("::")[0], _comfyui_of(nodeid)
            return f"{file.rpartition('/')[0]} on {comfyui}" if comfyui else file

    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter):
    """How many tests ran on each ComfyUI."""
    ran = Counter(
        (_comfyui_of(report.nodeid), outcome)
        for outcome in ("passed", "failed", "error", "skipped") for report in terminalreporter.stats.get(outcome, ())
    )
    for comfyui in sorted({name for name, _ in ran if name}):
        counts = [f"{ran[comfyui, outcome]} {outcome}" for name, outcome in ran if name == comfyui]
        terminalreporter.write_line(f"{comfyui}: {', '.join(counts)}")


def _comfyui_of(nodeid):
    """The name of the ComfyUI that a test runs on, which is in its id; None for a test without one."""
    found = re.search(r"\[((no-)?ComfyUI(-[^-\]]+)?)", nodeid)
    return found and found.group(1)


@pytest.fixture(scope="session")
def tiny_kandinsky_folder(tmp_path_factory):
    """A folder with prior/ and decoder/: a whole Kandinsky 2.2 with tiny random weights."""
    from tiny_kandinsky import build_tiny_kandinsky

    return build_tiny_kandinsky(tmp_path_factory.mktemp("tiny_kandinsky"))


@pytest.fixture(scope="session")
def tiny_kandinsky(tiny_kandinsky_folder):
    """The same, loaded: (prior, decoder)."""
    from rarity.generators.kandinsky.load import load_kandinsky

    return load_kandinsky(tiny_kandinsky_folder)


@pytest.fixture(scope="session")
def tiny_kandinsky_21_folder(tmp_path_factory):
    """A folder with kandinsky-2-1-prior/ and kandinsky-2-1/, as on the Hub, with tiny random weights."""
    from tiny_kandinsky import build_tiny_kandinsky_21

    return build_tiny_kandinsky_21(tmp_path_factory.mktemp("tiny_kandinsky_21"), seed=1)


@pytest.fixture(scope="session")
def tiny_kandinsky_21(tiny_kandinsky_21_folder):
    """The same, loaded: (prior, decoder)."""
    from rarity.generators.kandinsky.load import load_kandinsky

    return load_kandinsky(tiny_kandinsky_21_folder / "kandinsky-2-1-prior")
