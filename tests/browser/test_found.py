"""Artists who do not know this pack find it: the page's own search, asked for the words that they type."""

import pytest
from comfyui import ROOT

# What people type who want pictures they have not seen before.
TYPED = ("creative", "creativity", "different", "random", "similar", "seed", "explore", "variation", "surprise", "unusual", "unique",
         "weird", "rare")
# How often each node is used is among what the page sorts by, and comes a while after the rest.
STORE = "document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia._s.get('{}')".format
FREQUENT = f"{STORE('nodeFrequency')}?.isLoaded"
FIRST = f"""words => {{
  const nodes = {STORE('nodeDef')};
  return words.map(word => nodes.nodeSearchService.searchNode(word, [], {{limit: 5}}).map(
      node => node.name.startsWith('SubgraphBlueprint') ? node.display_name : node.name));
}}"""
BLUEPRINTS = {path.stem for path in (ROOT / "subgraphs").glob("*.json")}


def test_each_word_finds_a_node_of_ours_among_the_first_five(editor):
    if editor.vue:
        pytest.skip("The search is the same in both renderers.")
    info = editor.page.evaluate("fetch('/object_info/RarityDial').then(answer => answer.json())")
    if "search_aliases" not in info["RarityDial"]:
        pytest.skip("This ComfyUI has no words to find nodes by.")
    editor.page.wait_for_function(FREQUENT)
    found = dict(zip(TYPED, editor.page.evaluate(FIRST, list(TYPED)), strict=True))
    missing = {word: names for word, names in found.items()
               if not any(name.startswith("Rarity") or name in BLUEPRINTS for name in names)}
    assert not missing
