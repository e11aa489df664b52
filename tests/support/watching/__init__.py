"""Nodes for tests on a server, linked into custom_nodes: what an eye was shown, and whether models are what they were."""

import copy
import hashlib

import torch


def digest(*things):
    """SHA-256 of every weight, and of everything in conditionings."""
    found = hashlib.sha256()

    def feed(thing):
        if isinstance(thing, torch.Tensor):
            found.update(thing.contiguous().reshape(-1).view(torch.uint8).numpy())
        elif isinstance(thing, dict):
            for key in sorted(thing):
                found.update(key.encode())
                feed(thing[key])
        elif isinstance(thing, (list, tuple)):
            for part in thing:
                feed(part)
        elif hasattr(thing, "state_dict"):
            feed(thing.state_dict())
        elif hasattr(thing, "patcher") or hasattr(thing, "model"):
            feed(getattr(thing, "first_stage_model", None) or thing.model)
        else:
            found.update(repr(thing).encode() if isinstance(thing, (int, float, str, bool)) else type(thing).__name__.encode())

    feed(things)
    return found.hexdigest()


class Weights:
    """The digest of all weights of a model, its text encoders, its VAE and an eye. `when` makes ComfyUI look again."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("STRING",), "look", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "clip": ("CLIP",), "vae": ("VAE",), "eye": ("CLIP_VISION",), "when": ("STRING", {})}}

    def look(self, model, clip, vae, eye, when):
        return (digest(model.model, clip.cond_stage_model, vae.first_stage_model, eye.model),)


class Watched:
    """The same eye, which keeps the pictures that it is shown."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP_VISION",), "watch", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"eye": ("CLIP_VISION",)}}

    def watch(self, eye):
        watched = copy.copy(eye)
        watched.shown = []

        def encode_image(image, *given, **told):
            watched.shown.extend(image.cpu().clone())
            return eye.encode_image(image, *given, **told)

        watched.encode_image = encode_image
        return (watched,)


class Shown:
    """The last pictures that a watched eye was shown, after some node has said something."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "show", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"watched": ("CLIP_VISION",), "after": ("STRING", {"forceInput": True}), "count": ("INT", {})}}

    def show(self, watched, after, count):
        return (torch.stack(watched.shown[-count:]),)


NODE_CLASS_MAPPINGS = {"TestWeights": Weights, "TestWatched": Watched, "TestShown": Shown}
