"""What several folders of tests share."""

import pytest


@pytest.fixture(scope="session")
def tiny_kandinsky_folder(tmp_path_factory):
    """A folder with prior/ and decoder/: a whole Kandinsky 2.2 with tiny random weights."""
    from tiny_kandinsky import build_tiny_kandinsky

    return build_tiny_kandinsky(tmp_path_factory.mktemp("tiny_kandinsky"))


@pytest.fixture(scope="session")
def tiny_kandinsky(tiny_kandinsky_folder):
    """The same, loaded: (prior, decoder)."""
    from rarity.generators.kandinsky import load_kandinsky

    return load_kandinsky(tiny_kandinsky_folder)


@pytest.fixture(scope="session")
def tiny_kandinsky_21_folder(tmp_path_factory):
    """A folder with kandinsky-2-1-prior/ and kandinsky-2-1/, as on the Hub, with tiny random weights."""
    from tiny_kandinsky import build_tiny_kandinsky_21

    return build_tiny_kandinsky_21(tmp_path_factory.mktemp("tiny_kandinsky_21"), seed=1)


@pytest.fixture(scope="session")
def tiny_kandinsky_21(tiny_kandinsky_21_folder):
    """The same, loaded: (prior, decoder)."""
    from rarity.generators.kandinsky import load_kandinsky

    return load_kandinsky(tiny_kandinsky_21_folder / "kandinsky-2-1-prior")
