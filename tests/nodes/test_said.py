"""What a node says stands on the node: its report, its error; and what is on a page must be no HTML, nor end up in a file."""

import sys
import types

import pytest
from comfy_execution.utils import CurrentNodeContext
from rarity import nodes
from rarity.density.base.errors import RarityError
from rarity.generators.kandinsky.load import MINIATURE
from rarity.nodes.parts import frontend, said, upstream


@pytest.fixture
def page(monkeypatch):
    """What a page that saves no text would show: node id -> text."""
    shown = {}
    server = types.SimpleNamespace(client_id="me", send_progress_text=lambda text, node, client: shown.update({node: text}))
    module = types.ModuleType("server")
    module.PromptServer = types.SimpleNamespace(instance=server)
    monkeypatch.setitem(sys.modules, "server", module)
    monkeypatch.setattr(frontend, "version", lambda: (1, 39, 19))
    said._failed.clear()
    return types.SimpleNamespace(shown=shown, server=server)


def test_a_report_is_shown_on_the_node_that_made_it(run, page, density, baseline):
    with CurrentNodeContext("run", "6"):
        report = run(nodes.RarityMakeRare, density=density, embeddings=baseline, one_in=20, count=3, steps=2)[3]
    assert page.shown == {"6": report}


def test_a_table_of_a_report_stays_in_the_report():
    assert said._sentences("Learnt it.\nbits  in band\n 9.9       16\nA note.") == "Learnt it.\nA note."
    assert said._sentences("bits  in band\n 9.9       16") == "bits  in band\n 9.9       16", "a report that is a table is shown as it is"


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


@pytest.mark.parametrize("version", [(1, 27, 10), (1, 39, 18), ()])
def test_a_page_that_would_save_the_text_is_sent_none(page, monkeypatch, version):
    monkeypatch.setattr(frontend, "version", lambda: version)
    with CurrentNodeContext("run", "3"):
        said.say("report")
    assert not page.shown


def test_nobody_listens_where_a_script_runs_a_node(page):
    said.say("outside of a run")
    page.server.client_id = None
    with CurrentNodeContext("run", "3"):
        said.say("a run that a script asked for")
    assert not page.shown


@pytest.fixture
def says_why(monkeypatch):
    """A page whose message says why a node is refused."""
    monkeypatch.setattr(frontend, "version", lambda: (1, 49, 6))


def _linked(node):
    """Sockets with a link, as they come to `validate_inputs`: None."""
    return {"eye": None} if node in (nodes.RarityContrastGuardrail, nodes.RarityValidityGate, nodes.RaritySteerTowards) else {}


@pytest.mark.parametrize("node, widgets, told", [
    (nodes.RarityLoadKandinsky, {"model": MINIATURE, "repository": "my kandinsky"}, "The repository must be a name such as"),
    (nodes.RarityLoadKandinsky, {"model": "my kandinsky"}, "no Kandinsky model 'my kandinsky' here. Found: miniature"),
    (nodes.RaritySamplePrior, {"prompt": " \n"}, "The prompt must be some text"),
    (nodes.RaritySamplePrior, {"prompt": "a", "keep_as": "../x"}, "x"),
    (nodes.RarityContrastGuardrail, {"subject": "r", "alternatives": " \n r"}, "Write them into alternatives"),
    (nodes.RarityContrastGuardrail, {"subject": "a letter R", "alternatives": "a letter R"}, "Write them into alternatives"),
    (nodes.RarityContrastGuardrail, {"subject": "a letter R", "alternatives": "A letter  R\na LETTER r"}, "'A letter  R' reads as the subject"),
    (nodes.RarityValidityGate, {"subject": "a letter R", "alternatives": "A LETTER R"}, "'A LETTER R' reads as the subject"),
    (nodes.RarityValidityGate, {"subject": " ", "alternatives": "p"}, "The subject must be some text"),
    (nodes.RaritySteerTowards, {"towards": "", "away_from": "a"}, "needs both ends"),
    (nodes.RarityFitDensity, {"components": 3, "estimator": "oas"}, "oas has a variance for every direction. Got 3, set it to 0"),
    (nodes.RarityFitDensity, {"components": -1}, "Choose 1 or more components"),
    (nodes.RarityFitDensity, {"components": 0, "estimator": "best"}, "An estimator is one of auto, ppca"),
    (nodes.RaritySelectEmbeddings, {"indices": "first"}, "The indices must be whole numbers"),
    (nodes.RaritySelectEmbeddings, {"indices": ""}, "got nothing"),
    (nodes.RaritySaveFile, {"name": ["../x"]}, "x"),
    (nodes.RarityMakeRareConcept, {"prompt": ""}, "The prompt must be some text"),
    (nodes.RarityMakeRareWord, {"name": "a/../../b"}, "b"),
    (nodes.RarityBaselineFromModel, {"keep_as": "/x"}, "x"),
    (nodes.RarityUsualInWords, {"phrases": "a woman\n"}, "at least two, one a line.*got 'a woman'"),
])
def test_what_widgets_alone_show_is_refused_before_anything_runs(folders, says_why, node, widgets, told):
    with pytest.raises(RarityError, match=told):
        node.validate_inputs(**widgets, **_linked(node))


@pytest.mark.parametrize("node", [node for node in nodes.NODES if "validate_inputs" in vars(node)])
def test_what_widgets_show_first_is_accepted_and_what_is_linked_is_not_asked(folders, says_why, node):
    defaults = {item.id: item.default for item in node.define_schema().inputs if getattr(item, "default", None) is not None}
    asked = node.validate_inputs.__func__.__code__.co_varnames[1 : node.validate_inputs.__func__.__code__.co_argcount]
    as_list = (lambda value: [value]) if node.define_schema().is_input_list else (lambda value: value)
    shown = {name: as_list(defaults[name]) for name in asked if name in defaults}
    assert node.validate_inputs(**shown, **_linked(node)) is True
    assert node.validate_inputs(**{name: as_list(None) for name in asked}) is True
    assert node.validate_inputs() is True


def test_alternatives_are_not_asked_where_no_word_is_read(says_why):
    assert nodes.RarityContrastGuardrail.validate_inputs(subject="r", alternatives="")


@pytest.fixture
def asked(says_why):
    """Ask a node of a graph what it thinks of its widgets, as ComfyUI does before a run."""

    def ask(node, number, graph, **widgets):
        upstream.note({"prompt": graph})
        with CurrentNodeContext("run", number):
            return node.validate_inputs(**widgets)

    yield ask
    upstream.note({})


def _graph(count=2000, estimator="ppca", **more):
    return {
        "2": {"class_type": "RarityLoadKandinsky", "inputs": {"model": MINIATURE, "repository": ""}},
        "3": {"class_type": "RaritySamplePrior", "inputs": {"count": count, "prior": ["2", 0], **more}},
        "4": {"class_type": "RarityFitDensity", "inputs": {"embeddings": ["3", 0], "estimator": estimator}},
        "6": {"class_type": "RarityMakeRare", "inputs": {"density": ["4", 0], "embeddings": ["3", 0], "count": 300}},
        "8": {"class_type": "RarityDecodeKandinsky", "inputs": {"embeddings": ["6", 0]}},
    }


def test_what_two_widgets_show_together_is_refused_before_hours_of_sampling(asked):
    with pytest.raises(RarityError, match="at least 50 different ones are needed, got 49"):
        asked(nodes.RarityFitDensity, "4", _graph(49), embeddings=None)
    with pytest.raises(RarityError, match="The count must be 1 to 299, for there are 299 embeddings to start from, got 300"):
        asked(nodes.RarityMakeRare, "6", _graph(299), count=300, embeddings=None)
    with pytest.raises(RarityError, match="Decode Kandinsky got 300 embeddings, one picture each, and at most is 256"):
        asked(nodes.RarityDecodeKandinsky, "8", _graph(), embeddings=None, at_most=256)
    with pytest.raises(RarityError, match="with 60 components: at least .* got 60. Draw more samples, or choose fewer"):
        asked(nodes.RarityFitDensity, "4", _graph(60), embeddings=None, components=60)
    with pytest.raises(RarityError, match="Choose 1 to 63 components.*got 64"):
        asked(nodes.RarityFitDensity, "4", _graph(), embeddings=None, components=64)
    with pytest.raises(RarityError, match="no shell to move along.*with the estimator ppca or mixture"):
        asked(nodes.RarityMakeRare, "6", _graph(estimator="neighbours"), count=300, embeddings=None)


def test_a_baseline_kept_for_another_prompt_is_refused_before_anything_runs(run, model, page, says_why):
    run(nodes.RaritySamplePrior, prior=model[0], prompt="a letter G", count=2, steps=2, keep_as="mine")
    assert nodes.RaritySamplePrior.validate_inputs(prompt="a letter G", keep_as="mine") is True
    with pytest.raises(RarityError, match="another baseline: prompt 'a letter G' .asked for: 'a letter R'"):
        nodes.RaritySamplePrior.validate_inputs(prompt="a letter R", keep_as="mine")


@pytest.mark.parametrize("graph", [
    _graph(),
    _graph(estimator=["2", 0]),
    _graph(5, stop_when_enough=True),  # may be anything up to it
    _graph(["2", 0]),
    _graph("many"),
    {"4": {"class_type": "RarityFitDensity", "inputs": {"embeddings": ["9", 0]}}},
    {"4": {"class_type": "RarityFitDensity", "inputs": {}}},
    {},
])
def test_what_no_widget_says_is_not_asked(asked, graph):
    assert asked(nodes.RarityFitDensity, "4", graph, embeddings=None) is True
    without = {key: node for key, node in graph.items() if node["class_type"] != "RarityLoadKandinsky"}
    assert asked(nodes.RarityFitDensity, "4", without, embeddings=None, components=64, estimator="ppca") is True
    assert asked(nodes.RarityMakeRare, "6", graph, count=300, embeddings=None) is True
    assert asked(nodes.RarityDecodeKandinsky, "8", graph, embeddings=None, at_most=300) is True


def test_one_wrong_number_is_one_error_not_two(asked):
    """ComfyUI's message has room for one sentence: of several errors it counts them. ComfyUI itself refuses 0 samples."""
    assert asked(nodes.RarityMakeRare, "6", _graph(5), count=16, embeddings=None) is True
    assert asked(nodes.RarityFitDensity, "4", _graph(0), embeddings=None) is True
    assert asked(nodes.RarityDecodeKandinsky, "8", _graph(299), embeddings=None, at_most=256) is True


def test_an_older_page_is_told_while_the_node_runs(monkeypatch):
    """Of a node that is refused before a run it says nothing, if another part of the graph can run."""
    monkeypatch.setattr(frontend, "version", lambda: (1, 27, 10))
    assert nodes.RaritySamplePrior.validate_inputs(prompt=" ") is True


def test_the_version_of_the_page_is_read_from_its_package(monkeypatch):
    for written, read in (("1.49.6", (1, 49, 6)), ("1.50.0rc1", (1, 50)), ("dev", ())):
        monkeypatch.setattr(frontend.metadata, "version", lambda name, written=written: written)
        assert frontend.version.__wrapped__() == read


def test_every_graph_is_noted_once_and_handed_on(monkeypatch):
    server = types.SimpleNamespace(on_prompt_handlers=[])
    server.add_on_prompt_handler = server.on_prompt_handlers.append
    module = types.ModuleType("server")
    module.PromptServer = types.SimpleNamespace(instance=server)
    monkeypatch.setitem(sys.modules, "server", module)
    upstream.watch()
    upstream.watch()
    (noted,) = server.on_prompt_handlers
    request = {"prompt": _graph(), "client_id": "me"}
    assert noted(request) is request
