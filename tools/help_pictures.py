"""Draw the small pictures of the help pages, most of them from the built-in miniature: what each node makes, or what it changes.

    python tools/help_pictures.py                    all of them, about two minutes of two CPU cores
    python tools/help_pictures.py RarityDecodeKandinsky       one

Each is written beside its page, web/docs/NODE.jpg; a page shows it by its name alone.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from rarity.density.drawing.contact_sheet import annotated, contact_sheet
from rarity.density.drawing.density_map import density_map
from rarity.density.drawing.figure import INK, fit_tiles, new_figure, new_page, render, write
from rarity.density.drawing.interest_curve import interest_curve
from rarity.density.drawing.score_sheet import kept_sheet, novelty_sheet, originality_sheet
from rarity.density.drawing.strength_curve import strength_curve
from rarity.density.estimators.gaussian import GaussianDensity
from rarity.density.novelty.exposure import ExposureMemory
from rarity.density.novelty.originality import originality
from rarity.density.novelty.ranking import most_novel
from rarity.density.novelty.scores import score_novelty
from rarity.density.novelty.set_report import measure_variety
from rarity.density.novelty.strength import Look, find_strength
from rarity.density.steering.checkpoints import all_checkpoints
from rarity.density.steering.optimize import optimize
from rarity.density.steering.starts import choose_starts
from rarity.generators.concepts.learn import learn_concept
from rarity.generators.concepts.sampling import sample_concept
from rarity.generators.demo import LETTERS
from rarity.generators.eyes.contrast_sources import contrast_guardrail
from rarity.generators.eyes.direction_sources import text_direction
from rarity.generators.eyes.picture_folder import load_pictures
from rarity.generators.judges.zero_shot import ContrastJudge
from rarity.generators.kandinsky.load import load_kandinsky
from rarity.generators.local_score.new_pictures import BAGS, Recipe, new_pictures

DOCS = Path(__file__).resolve().parents[1] / "web" / "docs"
WIDTH, QUALITY = 640, 80  # of a picture as it ships
TILE, GAP, HEAD = 72, 6, 30  # of rows of letters
ACROSS = 8


class Workshop:
    """What all pictures start from: letters G of the miniature, what is usual of them, and the guardrail that keeps them G."""

    def __init__(self, letter="G", count=2000):
        self.prior, self.decoder = load_kandinsky()
        self.prompt = f"a letter {letter}"
        self.usual = self.prior.sample(self.prompt, count, seed=0)
        self.density = GaussianDensity.fit(self.usual)
        self.contrast = contrast_guardrail(self.prior, self.usual, self.prompt, LETTERS)

    def draw(self, embeddings):
        return self.decoder.decode(embeddings, seed=0)

    def rare(self, one_in, count=ACROSS, rails=None, **more):
        """The trajectory of letters that are 1 in `one_in`."""
        rails = (self.contrast,) if rails is None else rails
        starts = choose_starts(self.usual, self.density, count, "rarer", 0, rails)
        return optimize(self.density, starts, one_in, rails, **more)


def rows(named):
    """Rows of pictures, each under its name: a dictionary of name -> [N, H, W, 3]."""
    most = max(len(pictures) for pictures in named.values())
    width, height = 20 + most * (TILE + GAP), 12 + len(named) * (HEAD + TILE + GAP)
    figure, page = new_figure(width, height), new_page(width, height)
    for row, (name, pictures) in enumerate(named.items()):
        top = 4 + row * (HEAD + TILE + GAP)
        write(figure, 13, height - top - 21, name, 11, INK, weight="bold")
        for place, tile in enumerate(fit_tiles(pictures, TILE, TILE)):
            left = 13 + place * (TILE + GAP)
            page[top + HEAD : top + HEAD + TILE, left : left + TILE] = tile
    return render(figure, page)


def load_kandinsky_page(shop):
    letters = [shop.prior.sample(f"{style} letter {letter}", 1, seed=3) for style, letter in (
        ("a", "A"), ("a bold", "B"), ("a light", "C"), ("an italic", "D"), ("a bold italic serif", "E"), ("a mono", "F"),
        ("a sans", "G"), ("a serif", "H"))]
    return rows({"The miniature: A to Z; light, bold, italic, serif, sans, mono": torch.cat([shop.draw(one) for one in letters])})


def sample_prior(shop):
    return rows({f"Eight of the 2,000 samples of “{prompt}”": shop.draw(shop.prior.sample(prompt, ACROSS, seed=1))
                 for prompt in ("a letter G", "a bold italic serif letter R")})


def decode(shop):
    some = shop.usual.select(range(4))
    return rows({f"The same four embeddings, seed {seed}": shop.decoder.decode(some, seed=seed) for seed in (0, 1)})


def optimize_page(shop):
    return rows({"usual": shop.draw(shop.usual.select(range(ACROSS))),
                 **{f"1 in {one_in:,}": shop.draw(shop.rare(one_in).final) for one_in in (10, 1000, 100000)}})


def contrast(shop):
    shop = Workshop("R")
    return rows({"1 in 100,000 without a guardrail": shop.draw(shop.rare(100000, rails=()).final),
                 "1 in 100,000 with Contrast Guardrail": shop.draw(shop.rare(100000).final)})


def direction(shop):
    def towards(strength):
        wish = text_direction(shop.prior, f"a bold {shop.prompt[2:]}", f"a light {shop.prompt[2:]}", strength)
        return shop.draw(shop.rare(1000, directions=(wish,)).final)

    return rows({"1 in 1,000, towards light": towards(-2.0), "1 in 1,000": shop.draw(shop.rare(1000).final),
                 "1 in 1,000, towards bold": towards(2.0)})


def gate(shop):
    others = [shop.prior.sample(f"a letter {letter}", 1, seed=4) for letter in "CQO"]
    pictures = torch.cat([shop.draw(shop.rare(10000, 3).final), *(shop.draw(one) for one in others)])
    said = ContrastJudge(shop.prior, shop.prompt, LETTERS).probability(pictures)
    captions = [f"Yes: {float(p):.0%}\n{'valid' if p >= 0.5 else 'goes back'}" for p in said]
    return annotated(pictures, captions, f"Is this still {shop.prompt}?", width=WIDTH)


def density_map_page(shop):
    return density_map(shop.density, shop.usual, shop.rare(1000, 16))


def contact_sheet_page(shop):
    way = shop.rare(1000, 9)
    return contact_sheet(shop.draw(shop.usual.select(range(9))), shop.draw(way.final), way.captions(), width=800)


def curve(shop):
    way = shop.rare(10000, 4, rails=(), keep_every=20)
    return interest_curve(way, shop.draw(all_checkpoints(way, 1)), 1)


def pick(shop):
    way = shop.rare(100000, 4, keep_every=20)
    return rows({f"Sample {i}: start, and a checkpoint every 20 steps": shop.draw(all_checkpoints(way, i)) for i in (0, 1)})


def score(shop):
    fresh, seen = shop.prior.sample(shop.prompt, 3, seed=6), shop.usual.select([1])
    items = type(fresh).cat([seen, fresh])
    return novelty_sheet(score_novelty(items, shop.density, ExposureMemory(shop.density.space).update(seen)), shop.draw(items))


def rank(shop):
    fresh = shop.prior.sample(shop.prompt, 60, seed=5)
    new = score_novelty(fresh, shop.density, ExposureMemory(shop.density.space)).novelty
    pictures, _, scores, indices = most_novel(shop.draw(fresh), fresh, new, 4)
    return kept_sheet(pictures, scores, indices)


def diversity(shop):
    twins = shop.prior.sample(f"a bold italic serif {shop.prompt[2:]}", ACROSS, seed=2)
    sets = {"As varied as {:.1f} different pictures": twins, "As varied as {:.1f} different ones": shop.rare(1000).final}
    return rows({name.format(measure_variety(some).vendi): shop.draw(some) for name, some in sets.items()})


def originality_page(shop):
    reference = shop.usual.select(range(60))
    items = type(reference).cat([reference.select([7]), shop.prior.sample(shop.prompt, 3, seed=9)])
    found = originality(items, reference)
    return originality_sheet(found, reference, shop.draw(items), shop.draw(reference))


def concept(shop):
    prompt, settings = "a bold letter R", {"steps": 5, "guidance": 4.0}
    usual = shop.prior.sample(prompt, 1000, seed=0, **settings)
    rail = contrast_guardrail(shop.prior, usual, "a letter R", LETTERS)
    learnt = learn_concept(
        shop.prior, GaussianDensity.fit(usual), prompt, "bold", 1000, (rail,), objective="places", iterations=100, **settings
    )
    return rows({f"“{prompt}”, before": shop.draw(sample_concept(shop.prior, learnt, ACROSS, checkpoint=0, seed=1)),
                 "the same noise, when the word “bold” has learnt to be rare": shop.draw(sample_concept(shop.prior, learnt, ACROSS, seed=1))})


def seed_variety(shop):
    """Letters that hardly differ from seed to seed, as a distilled model draws; their embeddings move between wordings in place of a prompt."""
    middle, judge, tiles = shop.usual.vectors.mean(dim=0), ContrastJudge(shop.prior, shop.prompt, LETTERS), {}
    words = ("bold", "light", "italic", "serif", "sans", "mono")
    wordings = [shop.prior.sample(shop.prompt.replace("letter", f"{word} letter"), 64, seed=0).vectors.mean(dim=0) for word in words]
    changes, random = torch.stack(wordings) - middle, torch.Generator().manual_seed(0)

    def look(strength):
        alike = shop.usual.select(range(ACROSS * len(tiles), ACROSS * (len(tiles) + 1)))
        vectors = middle + 0.4 * (alike.vectors - middle)
        length, shares = vectors.norm(dim=1, keepdim=True), torch.randn(ACROSS, len(words), generator=random)
        turned = vectors + strength / len(words) ** 0.5 * shares @ changes
        drawn = shop.draw(replace(alike, vectors=turned * length / turned.norm(dim=1, keepdim=True)))
        tiles[strength] = drawn[:4]
        valid = torch.logit(judge.probability(drawn).double().clamp(0.001, 0.999))
        return Look(strength, shop.prior.encode_images(drawn).vectors, valid[:, None])

    return strength_curve(find_strength(look), tiles, 2.0, 0.95, width=900)


def local_score(shop):
    bags = load_pictures(BAGS).images
    return rows({f"{ACROSS} of {len(bags)} sources": bags[:: len(bags) // ACROSS][:ACROSS],
                 **{f"new ones, patch scale {scale:g}": new_pictures(bags, ACROSS, Recipe("local", "drawings", scale), seed=3) for scale in (0.5, 1.0, 1.6)}})


PICTURES = {
    "RarityLoadKandinsky": load_kandinsky_page,
    "RaritySamplePrior": sample_prior,
    "RarityDecodeKandinsky": decode,
    "RarityMakeRare": optimize_page,
    "RarityContrastGuardrail": contrast,
    "RaritySteerTowards": direction,
    "RarityValidityGate": gate,
    "RarityDensityMap": density_map_page,
    "RarityContactSheet": contact_sheet_page,
    "RarityInterestCurve": curve,
    "RarityPickStep": pick,
    "RarityScoreNovelty": score,
    "RarityRankImages": rank,
    "RarityMeasureVariety": diversity,
    "RarityCheckOriginality": originality_page,
    "RarityMakeRareConcept": concept,
    "RaritySeedVariety": seed_variety,
    "RarityLocalScore": local_score,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nodes", nargs="*", metavar="NODE", help=f"of {', '.join(PICTURES)}; without any, all")
    names = parser.parse_args().nodes or list(PICTURES)
    if not set(names) <= set(PICTURES):
        parser.error(f"expected names of {', '.join(PICTURES)}, got {', '.join(names)}")
    shop = Workshop()
    for name in names:
        pixels = PICTURES[name](shop)[0].mul(255).round().byte().numpy()
        picture = Image.fromarray(pixels)
        if picture.width > WIDTH:
            picture = picture.resize((WIDTH, round(WIDTH * picture.height / picture.width)), Image.LANCZOS)
        picture.save(DOCS / f"{name}.jpg", quality=QUALITY, optimize=True)


if __name__ == "__main__":
    main()
