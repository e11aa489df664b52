"""What goes wrong, and what came out, is said where one looks: in ComfyUI's message, and on the node."""

import json

import pytest
from new_user import QUICKSTART, use

SET = "([type, name, value]) => app.graph.nodes.find(node => node.type === type).widgets.find(w => w.name === name).value = value"
SAVED = "type => app.graph.nodes.find(node => node.type === type).serialize().widgets_values.length"
# What the widgets of the quickstart show to be wrong: (node, widget, what is written there, our sentence).
WRONG = [
    ("RarityLoadKandinsky", "repository", "my kandinsky", "The repository must be a name such as kandinsky-community"),
    ("RaritySamplePrior", "prompt", " ", "The prompt must be some text, got ' '. Write what to draw"),
    ("RaritySamplePrior", "keep_as", "../x", "'../x'"),
    ("RarityContrastGuardrail", "alternatives", "A DRAWING of a  car", "'A DRAWING of a  car' reads as the subject 'a drawing of a car' does"),
    ("RarityContrastGuardrail", "alternatives", "", "needs at least one alternative that it must not turn into, got none"),
    ("RaritySamplePrior", "count", 5, "at least 50 different ones are needed, got 5"),
    ("RarityFitDensity", "components", 64, "Choose 1 to 63 components, or 0 for the best by held-out samples; got 64"),
    ("RarityLoadKandinsky", "model", "my kandinsky", "There is no Kandinsky model 'my kandinsky' here"),
    ("RarityMakeRare", "count", 250, "The count must be 1 to 200, for there are 200 embeddings to start from, got 250"),
    ("RarityDecodeKandinsky", "at_most", 3, "Decode Kandinsky got 16 embeddings, one picture each, and at most is 3"),
]


@pytest.fixture(scope="module")
def page(editor):
    """A page that is loaded anew when these tests are done: messages stay on it."""
    yield editor
    editor.page.reload()
    editor.wait_until_ready()


@pytest.fixture
def quickstart(page):
    """The quickstart, opened."""
    page.page.keyboard.press("Escape")
    page.open(json.loads(QUICKSTART.read_text(encoding="utf-8")), "quickstart", settle=False)
    return page


def test_a_new_user_reads_runs_turns_the_dial_and_runs_without_zooming(quickstart):
    if quickstart.vue or not quickstart.shows_texts:
        pytest.skip("One way is enough: classic nodes of a newer page, where a click on the arrow turns the dial.")
    quickstart.page.evaluate(SET, ["RaritySamplePrior", "count", 300])
    use(quickstart)
    assert not quickstart.complaints


@pytest.mark.parametrize("node, widget, written, sentence", WRONG, ids=[f"{node}-{widget}" for node, widget, *_ in WRONG])
def test_what_a_widget_shows_is_said_in_the_message(quickstart, node, widget, written, sentence):
    if quickstart.vue:
        pytest.skip("Messages are the same in both renderers.")
    quickstart.page.evaluate(SET, ["RaritySamplePrior", "count", 200])  # for an older page
    quickstart.page.evaluate(SET, [node, widget, written])
    quickstart.page.evaluate("app.queuePrompt(0)")
    quickstart.page.get_by_text(sentence).first.wait_for(timeout=60000)


def test_of_two_errors_the_message_gives_the_number_and_its_details_open_both_sentences(quickstart):
    if quickstart.vue or not quickstart.shows_texts:
        pytest.skip("Messages are the same in both renderers; an older page tells while the node runs, one error at a time.")
    two = [WRONG[0], WRONG[3]]
    for node, widget, written, _ in two:
        quickstart.page.evaluate(SET, [node, widget, written])
    quickstart.page.evaluate("app.queuePrompt(0)")
    quickstart.page.get_by_role("button", name="View details").last.click()
    for title, sentence in (("Load Kandinsky", two[0][-1]), ("Contrast Guardrail", two[1][-1])):
        quickstart.page.locator(f'[aria-expanded][aria-label*="{title} - "]').click()
        quickstart.page.get_by_text(sentence).first.wait_for(timeout=60000)


def test_what_only_the_run_shows_stands_on_the_node_and_no_text_is_saved(quickstart):
    """Which words read alike only the encoder knows; the message of newer pages says which node failed, so the node says why."""
    before = [quickstart.page.evaluate(SAVED, name) for name in ("RaritySamplePrior", "RarityFitDensity")]
    quickstart.page.evaluate("app.graph.nodes.forEach(node => node.flags.collapsed && node.collapse())")
    count = 401 if quickstart.vue else 400  # what ComfyUI has cached does not run, and says nothing
    quickstart.page.evaluate(SET, ["RaritySamplePrior", "count", count])
    long = "a drawing of a bag " * 60  # more than any encoder reads
    quickstart.page.evaluate(SET, ["RarityContrastGuardrail", "subject", f"{long} in red"])
    quickstart.page.evaluate(SET, ["RarityContrastGuardrail", "alternatives", f"{long} in blue"])
    quickstart.page.evaluate("app.queuePrompt(0)")
    quickstart.page.get_by_text("reads as the subject").first.wait_for(timeout=60000)
    if quickstart.shows_texts:
        quickstart.page.get_by_text(f"{count} samples of 'a drawing of a car'").first.wait_for(timeout=20000)
    assert [quickstart.page.evaluate(SAVED, name) for name in ("RaritySamplePrior", "RarityFitDensity")] == before
