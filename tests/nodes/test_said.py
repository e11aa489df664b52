"""What a node says stands on the node: its report, its error; and what is on a page must be no HTML, nor end up in a file."""

import sys
import types

import pytest
from comfy_execution.utils import CurrentNodeContext
from rarity import nodes
from rarity.density.base.errors import RarityError
from rarity.nodes.parts import said


@pytest.fixture
def page(monkeypatch):
    """What a page that saves no text would show: node id -> text."""
    shown = {}
    server = types.SimpleNamespace(client_id="me", send_progress_text=lambda text, node, client: shown.update({node: text}))
    module = types.ModuleType("server")
    module.PromptServer = types.SimpleNamespace(instance=server)
    monkeypatch.setitem(sys.modules, "server", module)
    monkeypatch.setattr(said.metadata, "version", lambda name: "1.39.19")
    said._saves_no_text.cache_clear()
    said._failed.clear()
    yield types.SimpleNamespace(shown=shown, server=server)
    said._saves_no_text.cache_clear()


def test_a_report_is_shown_on_the_node_that_made_it(run, page, density, baseline):
    with CurrentNodeContext("run", "6"):
        report = run(nodes.RarityOptimize, density=density, embeddings=baseline, one_in=20, count=3, steps=2)[3]
    assert page.shown == {"6": report}


def test_an_error_is_shown_until_the_node_has_run(run, page, density, baseline):
    given = {"embeddings": baseline, "quantile": 0.1}
    with CurrentNodeContext("run", "3"):
        with pytest.raises(RarityError) as refused:
            run(nodes.RarityAnchorGuardrail, **{**given, "embeddings": None})
        assert page.shown == {"3": str(refused.value)}
        run(nodes.RarityAnchorGuardrail, **given)
        assert page.shown == {"3": "Done."}
        page.shown.clear()
        run(nodes.RarityAnchorGuardrail, **given)
    assert not page.shown, "a node that has nothing to say says nothing"


def test_comfyui_writes_no_path_before_the_sentence(run):
    """ComfyUI shows module.Class: sentence, and the class alone where its module is Python's own."""
    with pytest.raises(RarityError) as refused:
        run(nodes.RarityAnchorGuardrail, embeddings=None)
    assert (refused.type.__module__, refused.type.__qualname__) == ("builtins", "Rarity")


def test_a_prompt_is_no_html(page):
    with CurrentNodeContext("run", "3"):
        said.say("<img src=x onerror=alert(1)> & 3 < 4")
    assert not set(page.shown["3"]) & set("<>")


@pytest.mark.parametrize("version", ["1.27.10", "1.39.18", "none"])
def test_a_page_that_would_save_the_text_is_sent_none(page, monkeypatch, version):
    monkeypatch.setattr(said.metadata, "version", lambda name: version)
    said._saves_no_text.cache_clear()
    with CurrentNodeContext("run", "3"):
        said.say("report")
    assert not page.shown


def test_nobody_listens_where_a_script_runs_a_node(page):
    said.say("outside of a run")
    page.server.client_id = None
    with CurrentNodeContext("run", "3"):
        said.say("a run that a script asked for")
    assert not page.shown
