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


def _linked(node):
    """Sockets with a link, as they come to `validate_inputs`: None."""
    return {"prior": None} if node in (nodes.RarityContrastGuardrail, nodes.RarityValidityGate, nodes.RarityDirection) else {}


@pytest.mark.parametrize("node, widgets, told", [
    (nodes.RarityLoadKandinsky, {"repository": "my kandinsky"}, "The repository must be a name such as"),
    (nodes.RaritySamplePrior, {"prompt": " \n"}, "The prompt must be some text"),
    (nodes.RaritySamplePrior, {"prompt": "a", "keep_as": "../x"}, "x"),
    (nodes.RarityContrastGuardrail, {"subject": "r", "alternatives": " \n r"}, "Write them into alternatives"),
    (nodes.RarityValidityGate, {"subject": " ", "alternatives": "p"}, "The subject must be some text"),
    (nodes.RarityDirection, {"towards": "", "away_from": "a"}, "needs both ends"),
    (nodes.RaritySelectEmbeddings, {"indices": "first"}, "The indices must be whole numbers"),
    (nodes.RaritySelectEmbeddings, {"indices": ""}, "got nothing"),
    (nodes.RaritySaveDensity, {"name": "../x"}, "x"),
    (nodes.RaritySaveConcept, {"name": ["../x"]}, "x"),
    (nodes.RarityLearnConcept, {"prompt": ""}, "The prompt must be some text"),
    (nodes.RarityOptimizeToken, {"name": "a/../../b"}, "b"),
    (nodes.RarityBaselineFromModel, {"keep_as": "/x"}, "x"),
])
def test_what_widgets_alone_show_is_refused_before_anything_runs(folders, node, widgets, told):
    with pytest.raises(RarityError, match=told):
        node.validate_inputs(**widgets, **_linked(node))


@pytest.mark.parametrize("node", [node for node in nodes.NODES if "validate_inputs" in vars(node)])
def test_what_widgets_show_first_is_accepted_and_what_is_linked_is_not_asked(folders, node):
    defaults = {item.id: item.default for item in node.define_schema().inputs if getattr(item, "default", None) is not None}
    asked = node.validate_inputs.__func__.__code__.co_varnames[1 : node.validate_inputs.__func__.__code__.co_argcount]
    as_list = (lambda value: [value]) if node.define_schema().is_input_list else (lambda value: value)
    shown = {name: as_list(defaults[name]) for name in asked if name in defaults}
    assert shown and node.validate_inputs(**shown, **_linked(node)) is True
    assert node.validate_inputs(**{name: as_list(None) for name in asked}) is True
    assert node.validate_inputs() is True


def test_alternatives_are_not_asked_where_no_word_is_read():
    assert nodes.RarityContrastGuardrail.validate_inputs(subject="r", alternatives="")
