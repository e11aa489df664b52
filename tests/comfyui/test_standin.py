"""The stand-in for ComfyUI's API cannot drift: the real package offers all that it offers, and describes nodes alike."""

import json


def test_everything_the_standin_offers_is_in_the_real_one(on_standin, on_comfyui, tmp_path):
    offered = on_standin("signatures.py")
    names = tmp_path / "names.json"
    names.write_text(json.dumps(list(offered)))
    real = on_comfyui("signatures.py", "--names", str(names))
    assert len(offered) > 80
    for name, ours in offered.items():
        theirs = real[name]
        assert theirs is not None, f"{name} does not exist"
        assert theirs["is"] == ours["is"], name
        # More parameters are fine: the pack passes keywords, and the stand-in refuses those it does not know.
        known = {item[0]: item[1:] for item in theirs.get("parameters", [])}
        for parameter, *kind_and_default in ours.get("parameters", []):
            assert known.get(parameter) == kind_and_default, f"{name}({parameter})"


def test_both_describe_the_nodes_alike(on_standin, on_comfyui):
    real, standin = on_comfyui("node_schemas.py"), on_standin("node_schemas.py")
    assert real.keys() == standin.keys()
    for name, ours in standin.items():
        # A newer ComfyUI may say more about a node, never something else.
        theirs = {key: real[name][key] for key in ours}
        for infos in (ours, theirs):
            for menu in ("model", "name", "checkpoint", "sampler_name", "scheduler"):  # what lies on this machine
                if infos["input"]["required"].get(menu, [""])[0] == "COMBO":
                    infos["input"]["required"][menu][1].pop("options")
        assert theirs == ours
