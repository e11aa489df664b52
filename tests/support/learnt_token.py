"""Run RarityMakeRareWord on small models of random weights, in this process, and print JSON.

Stable Diffusion 1.5, XL and 2.1, Stable Cascade, Flux and Z-Image from their files; Krea 2 and Flux.2 made here, if this ComfyUI knows them.

    python tests/support/learnt_token.py FOLDER MODELS... --comfyui FOLDER

MODELS are files that make_checkpoints.py makes, by their names.
"""

import argparse
import importlib.util
import json
import string
import sys
from pathlib import Path

import torch
from conditioning import SETTINGS as OTHERS
from conditioning import digest
from in_process import start_comfyui
from language_models import ENCODERS, language_model

SETTINGS = OTHERS | {"steps": 1, "cfg": 1.0}
START, NAME, PROMPT = "chair", "rare-chair", "a photo of a *, in (a red * house:1.3)"


def main():
    parser = argparse.ArgumentParser(description="A word learnt with ComfyUI's own models.")
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--comfyui", type=Path, required=True)
    arguments = parser.parse_args()
    start_comfyui(arguments.comfyui, small=True)
    import comfy.clip_vision
    import folder_paths

    with torch.inference_mode():
        files = {path.stem.removesuffix("_small"): str(path) for path in arguments.models}
        vision, found, density = comfy.clip_vision.load(files["clip_vision_l"]), {}, None
        made_here = ENCODERS if importlib.util.find_spec("comfy.text_encoders.krea2") else ()
        for kind in (*filter(files.__contains__, ("sd15", "sdxl", "sd21_unclip_l", "cascade_c", "flux", "zimage")), *made_here):
            folder = arguments.embeddings / kind
            folder.mkdir(parents=True)
            folder_paths.folder_names_and_paths["embeddings"] = ([str(folder)], {".safetensors"})
            found[kind], density = findings(kind, files, vision, folder, density)
        found["refused"] = refused()
        json.dump(found, sys.stdout)


def loaded(kind, files, folder):
    """A model, its text encoders and its VAE, by ComfyUI's own loaders."""
    import comfy.sd
    import comfy.utils

    if kind in ENCODERS:
        return language_model(kind, folder)
    if kind not in ("flux", "zimage"):
        return comfy.sd.load_checkpoint_guess_config(files[kind], embedding_directory=[str(folder)])[:3]
    names, clip_type = {"flux": (["clip_l", "t5xxl"], "FLUX"), "zimage": (["qwen3_4b"], "LUMINA2")}[kind]
    clip = comfy.sd.load_clip([files[name] for name in names], [str(folder)], clip_type=comfy.sd.CLIPType[clip_type])
    return comfy.sd.load_diffusion_model(files[kind]), clip, comfy.sd.VAE(sd=comfy.utils.load_torch_file(files["ae"]))


def refused():
    """What is said of text encoders that take the name of a file for text: Qwen-Image's; and Anima's, which count words, if there are any."""
    from types import SimpleNamespace

    from comfy.text_encoders.qwen_image import QwenImageTokenizer
    from rarity.density.base.errors import RarityError
    from rarity.generators.comfyui.token import Word

    kinds = {"Qwen-Image": (QwenImageTokenizer, "qwen25_7b")}
    if importlib.util.find_spec("comfy.text_encoders.anima"):
        from comfy.text_encoders.anima import AnimaTokenizer

        kinds["Anima"] = (AnimaTokenizer, "qwen3_06b")
    said = {}
    for name, (tokenizer, network) in kinds.items():
        read = tokenizer(embedding_directory=["embeddings"])
        clip = SimpleNamespace(tokenizer=read, tokenize=read.tokenize_with_weights, cond_stage_model=SimpleNamespace(**{network: read}))
        try:
            Word(clip, PROMPT, "*", START)
        except RarityError as error:
            said[name] = str(error)
    return said


def findings(kind, files, vision, folder, density):
    """The findings of one model, and its density. The others use that of 1.5, because only their files are tested."""
    import comfy.model_management
    from rarity.density import GaussianDensity
    from rarity.density.base.errors import RarityError
    from rarity.generators.comfyui.clip_vision_eye import ClipVisionEncoder
    from rarity.generators.comfyui.model_baseline import ModelPictures, draw_model_baseline
    from rarity.generators.comfyui.token import Word
    from rarity.nodes import RarityMakeRareWord
    from safetensors.torch import load_file, save_file

    import nodes as core

    model, clip, vae = loaded(kind, files, folder)
    empty = core.CLIPTextEncode().encode(clip, "")[0]
    later = density is not None
    start = Word(clip, PROMPT, "*", START)
    if not later:
        drawing = ModelPictures(model, start.positive, empty, vae, 1000, **SETTINGS)
        density = GaussianDensity.fit(draw_model_baseline(drawing, ClipVisionEncoder(vision), 52, batch_size=8)[0], components=4)
    held = digest(model, vae, clip, vision, empty)
    given = {"model": model, "clip": clip, "prompt": PROMPT, "placeholder": "*", "start_word": START, "name": NAME, "negative": empty,
             "vae": vae, "density": density, "one_in": 50, "pictures": 1, "iterations": 1, "seed": 0, "sampler_name": "euler",
             "scheduler": "normal", "eye": vision, "engine": "gradient", **SETTINGS}

    def run(**changed):
        return RarityMakeRareWord.execute(**given | changed).args

    def unchanged():
        return digest(model, vae, clip, vision, empty) == held

    def complaint(**changed):
        try:
            run(**changed)
        except RarityError as error:
            return str(error)

    def stock(text):
        return core.CLIPTextEncode().encode(clip, text)[0]

    def apart(one, other):
        pairs = ((one[0][0], other[0][0]), (one[0][1]["pooled_output"], other[0][1]["pooled_output"]))
        return max(float((x - y).abs().max()) for x, y in pairs if x is not None)

    conditioning, trajectory, report, _ = run(**{"iterations": 1, "one_in": 1000} if later else {"iterations": 30})
    path = folder / f"{NAME}.safetensors"
    found = {
        "begins as the word": apart(start.positive, stock(PROMPT.replace("*", START))),
        "moved": apart(conditioning, start.positive),
        "from stock": apart(conditioning, stock(PROMPT.replace("*", f"embedding:{NAME}"))),
        "file": {key: list(x.shape) for key, x in load_file(path).items()},
        "bits": trajectory.readings["bits"].tolist(),
        "in band": trajectory.in_band.tolist(),
        "report": report,
        "plain": not conditioning[0][0].is_inference() and not conditioning[0][0].requires_grad,
    }
    if later:
        save_file({"clip_l": torch.zeros(1, 768)}, folder / "half.safetensors")
        before = path.read_bytes()
        found["errors"] = {"start": complaint(start_word="embedding:half"), "prompt": complaint(prompt="a * by embedding:half")}
        if kind in ("flux", "zimage", *ENCODERS):
            found["slope"], found["columns"] = slopes(start), columns(start)
            found["mean"] = mean(clip, folder)
        if kind == "sdxl":  # it reads a pooled vector
            tokens, seven = empty[0][0], torch.ones(1, 768)
            found["errors"] |= {
                "no pooled": complaint(negative=[[tokens, {}]], cfg=2.0),
                "another pooled": complaint(negative=[[tokens, {"pooled_output": seven}]], cfg=2.0),
                "narrow": complaint(negative=[[tokens[..., :768], {"pooled_output": seven}]], cfg=2.0),
            }
        return found | {"kept": path.read_bytes() == before, "unchanged": unchanged()}, density
    found["slope"], found["names"] = slopes(start), names(clip, start, folder)
    goes_on = Word(clip, PROMPT, "*", f"embedding:{NAME}")
    saved = load_file(path)["clip_l"][0]
    found["goes on"] = float((goes_on.vector - saved).abs().max())
    ids = [one for part in clip.tokenize("wooden stool")["l"] for one, _ in part][1:3]
    table = clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight.float()
    found["mean"] = float((Word(clip, PROMPT, "*", "wooden stool").vector - table[ids].mean(dim=0)).abs().max())
    found["subspace"] = subspace(start)
    before = path.read_bytes()
    save_file({"clip_l": torch.full((1, 768), float("nan"))}, folder / "broken.safetensors")
    save_file({"clip_l": torch.zeros(1, 768)}, folder / "theirs.safetensors")
    (folder / "sub").mkdir()
    save_file({"clip_l": torch.zeros(1, 768)}, folder / "sub" / "hidden.safetensors")
    found["errors"] = {
        "no placeholder": complaint(prompt="a photo of a chair"),
        "part of a word": complaint(prompt="a photo of a chair-*"),
        "no start": complaint(start_word=" "),
        "unknown start": complaint(start_word="embedding:nowhere"),
        "not finite": complaint(start_word="embedding:broken"),
        "leaves": complaint(name="../rare"),
        "two words": complaint(name="rare chair"),
        "brackets": complaint(name="rare(chair)"),
        "square": complaint(name="rare[chair"),
        "theirs": complaint(name="theirs"),
        "elsewhere": complaint(name="hidden"),
    }
    comfy.model_management.interrupt_current_processing()
    try:
        run()
    except comfy.model_management.InterruptProcessingException:
        found["cancelled"] = True
    found |= {"kept": path.read_bytes() == before, "files": sorted(x.name for x in folder.iterdir()), "unchanged": unchanged()}
    return found, density


def names(clip, word, folder):
    """The characters that a name may hold, and those of these names that ComfyUI does not find in a prompt."""
    from rarity.density.base.errors import RarityError
    from rarity.density.files.store import safe_path
    from safetensors.torch import save_file

    accepted, lost = "", ""
    for sign in string.punctuation:
        try:
            path = safe_path(folder, name := f"a{sign}b")
            word.check_name(name, path)
        except RarityError:
            continue
        path.parent.mkdir(exist_ok=True)
        save_file({"clip_l": torch.zeros(1, 768)}, path)
        read = clip.tokenize(f"a photo of embedding:{name}, and (embedding:{name}:1.2) more")["l"]
        accepted += sign
        lost += sign * (sum(isinstance(one, torch.Tensor) for part in read for one, _ in part) != 2)
        path.unlink()
        if path.parent != folder:
            path.parent.rmdir()
    return {"accepted": accepted, "lost": lost}


def slopes(word):
    """Slopes of a random projection of the CONDITIONING in the word's vector: by gradient, and by central differences.

    The third number is the gap between the CONDITIONING with gradients and the ordinary one.
    """
    with torch.inference_mode(False):
        tokens = word.positive[0][0]
        weights = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0))
        change = torch.zeros(len(word.vector), requires_grad=True)
        with torch.enable_grad():
            ((made, _),) = word.moved(change)
            (slope,) = torch.autograd.grad((made * weights).sum(), change)
        step = 0.01 * slope / slope.norm()
        with torch.no_grad():
            ahead, behind = (((word.moved(sign * step)[0][0]) * weights).sum() for sign in (1, -1))
        return {"gradient": float(slope.norm()), "difference": float(ahead - behind) / 0.02,
                "gap": float((made.detach() - tokens).abs().max())}


def columns(word):
    """Of the directions: how many there are, their rank, and of how many text encoders each moves the vector."""
    basis = word.subspace(8)
    parts = [x.abs().amax(dim=0) > 0 for x in basis.split([table.shape[1] for table in word._tables.values()])]
    return [basis.shape[1], int(torch.linalg.matrix_rank(basis)), torch.stack(parts).sum(dim=0).tolist()]


def mean(clip, folder):
    """How far the start is from the mean of its words in each text encoder's table, without the template around a prompt."""
    from rarity.generators.comfyui.token import Word

    word, away = Word(clip, PROMPT, "*", "wooden stool"), 0.0
    for (key, table), vector in zip(word._tables.items(), word._split(word.vector).values(), strict=True):
        ids = word._readers[key].tokenizer("wooden stool")["input_ids"]
        special = {one for one in ids if key != "qwen3_4b" and one in (1, 49406, 49407)}
        away = max(away, float((vector - table[[one for one in ids if one not in special]].mean(dim=0)).abs().max()))
    return away


def subspace(word):
    """How far the directions are from the nearest words' principal directions, computed directly; and their number."""
    (table,) = word._tables.values()
    unit = word.spread[0].double()
    words, start = table.double() / unit, word.vector.double() / unit
    near = sorted(range(len(words)), key=(words @ start / words.norm(dim=1)).tolist().__getitem__)[-64:]
    steps = words[near] - start
    values, vectors = torch.linalg.eigh(steps.T @ steps / 64)
    basis = word.subspace(3).double() / unit
    expected = (vectors[:, -3:] * values[-3:]) @ vectors[:, -3:].T
    return {"columns": basis.shape[1], "away": float((basis @ basis.T - expected).norm() / expected.norm())}


if __name__ == "__main__":
    main()
