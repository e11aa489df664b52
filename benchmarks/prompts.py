"""Does the built-in miniature do what a prompt says? Letter, weight, slant and class, judged by readers that never saw its typefaces.
And how near is a letter, drawn and looked at again, to the embedding that it was drawn from?

    python benchmarks/prompts.py [--json FILE] [--each N]
"""
from __future__ import annotations

import argparse
from pathlib import Path

import torch
from judges import letter_judge, style_judge
from rarity.generators.kandinsky.load import load_kandinsky
from targets import show_targets, write_json
from torch import Tensor
from torch.nn.functional import cosine_similarity
from tqdm import tqdm

ALL = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PROMPTS = {
    "a letter {}": {},
    "a light letter {}": {"weight": "light"},
    "a bold letter {}": {"weight": "bold"},
    "an italic letter {}": {"slant": "italic"},
    "a serif letter {}": {"class": "serif"},
    "a sans letter {}": {"class": "sans"},
    "a mono letter {}": {},
    "a bold italic serif letter {}": {"weight": "bold", "slant": "italic", "class": "serif"},
    "a light sans letter {}": {"weight": "light", "class": "sans"},
}


KINDS = ("letter", "weight", "slant", "class")


def width_ratio(pictures: Tensor, each: int) -> float:
    """Ink width of I over that of M, medians of their pictures: near 1/5 in most faces, well above where every letter has a cell of one width."""
    dark = (pictures.mean(-1) < 0.5).any(1).double()
    span = (dark.cumsum(1).gt(0) & dark.flip(1).cumsum(1).flip(1).gt(0)).sum(1).double().view(26, each)
    return float(span[ALL.index("I")].median() / span[ALL.index("M")].median())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and targets there, too")
    parser.add_argument("--each", type=int, default=4, metavar="N", help="pictures a prompt and letter")
    options = parser.parse_args()
    prior, decoder = load_kandinsky()
    (letter, letter_accuracy), (style, style_accuracy) = letter_judge(), style_judge()
    rows, cosines = [], []
    for prompt, asked in tqdm(PROMPTS.items(), desc="prompts", disable=None):
        embeddings = [prior.sample(prompt.format(name), options.each, seed=i) for i, name in enumerate(ALL)]
        pictures = torch.cat([decoder.decode(drawn_from, seed=i) for i, drawn_from in enumerate(embeddings)])
        asked_for = torch.cat([drawn_from.vectors for drawn_from in embeddings])
        cosines.append(cosine_similarity(asked_for.double(), prior.encode_images(pictures).vectors.double()))
        wanted = torch.arange(26).repeat_interleave(options.each)
        said = style(pictures)
        obeyed = {kind: sum(word == value for word in said[kind]) / len(pictures) for kind, value in asked.items()}
        right = float((letter(pictures).argmax(1) == wanted).double().mean())
        rows.append({"prompt": prompt.format("?"), "letter": right, **obeyed, "I : M": width_ratio(pictures, options.each)})
    print(f"\n{'prompt':32}" + "".join(f"{kind:>10}" for kind in (*KINDS, "I : M")))
    for row in rows:
        print(f"{row['prompt']:32}" + "".join(f"{row[k]:10.3f}" if k in row else f"{'':10}" for k in (*KINDS, "I : M")))
    right = {"letter": letter_accuracy, **style_accuracy}
    print(f"{'judge, unseen typefaces':32}" + "".join(f"{right[k]:10.3f}" for k in KINDS))
    print("\nShare of pictures in which the judge sees what was asked for; last row: how often it is right itself. I : M, the ink width\nof I over that of M, shows whether mono is obeyed: no single letter does.")
    low, middle, high = (float(torch.cat(cosines).quantile(share)) for share in (0.05, 0.5, 0.95))
    print(f"\nCosine between an embedding and that of its picture: median {middle:.3f}, nine in ten {low:.3f} to {high:.3f}.")
    targets = [
        {"name": f"{row['prompt']}: {kind}", "value": row[kind], "reach": 0.95, "ok": row[kind] >= 0.95}
        for row in rows
        for kind in KINDS
        if kind in row
    ]
    show_targets([target for target in targets if not target["ok"]])
    write_json(options.json, settings={"each": options.each}, rows=rows, cosine=middle, targets=targets)


if __name__ == "__main__":
    main()
