"""The novelty nodes as ComfyUI runs them: encode, score, rank, remember, compare, keep on disk; and what users get wrong."""

import types

import pytest
import torch
from rarity import nodes
from rarity.density import Embeddings, RarityError, score_novelty, vendi_score
from rarity.density.novelty.exposure import ExposureMemory


@pytest.fixture
def candidates(run, model):
    return run(nodes.RaritySamplePrior, prior=model[0], count=9, steps=3, seed=7)[0]


@pytest.fixture
def pictures(candidates):
    """As many pictures as candidates, each of one grey that names it."""
    return (torch.arange(len(candidates)) / 10).view(-1, 1, 1, 1).expand(-1, 8, 8, 3).clone()


def rank(run, images, embeddings, scores, keep=4, floor=0.0):
    """ComfyUI gives a node that takes lists every input as one, widgets included."""
    return run(nodes.RarityRankImages, images=[images], embeddings=[embeddings], scores=scores, keep=[keep], floor=[floor])


def show(run, embeddings, memory=None, **options):
    connected = {} if memory is None else {"exposure": memory}
    return run(nodes.RarityExposureUpdate, embeddings=embeddings, **connected, **options)[0]


def foreign(embeddings):
    from rarity.density import EmbeddingSpace

    return Embeddings(embeddings.vectors, EmbeddingSpace("another", "encoder", embeddings.space.width))


# --- score


def test_score_gives_what_the_library_gives(run, density, candidates, pictures):
    scores, table, annotated, passed_on = run(nodes.RarityScoreNovelty, embeddings=candidates, density=density, images=pictures)
    expected = score_novelty(candidates, density, ExposureMemory(density.space))
    assert scores == expected.novelty.tolist() and len(table.splitlines()) > len(candidates)
    assert annotated.shape[0] == 1 and annotated.shape[3] == 3 and passed_on is candidates
    bars = run(nodes.RarityScoreNovelty, embeddings=candidates, density=density)[2]
    assert bars.shape[0] == 1 and bars.shape != annotated.shape and bars.std() > 0.01


def test_scoring_against_a_large_memory_can_be_cancelled_after_every_picture(run, density, baseline, candidates, monkeypatch):
    from comfy import model_management, utils
    from rarity.density.novelty import information

    monkeypatch.setattr(information, "MOST_SEEN", 50)  # from which on every picture is compared with those nearest to it
    sent = []

    def cancel_soon(bar, value, total=None, preview=None):
        sent.append((value, total))
        if value:
            model_management.interrupt_current_processing()

    monkeypatch.setattr(utils.ProgressBar, "update_absolute", cancel_soon)
    with pytest.raises(model_management.InterruptProcessingException):
        run(nodes.RarityScoreNovelty, embeddings=candidates, density=density, exposure=show(run, baseline))
    assert sent[-1] == (1, 9) and all(done == 0 for done, _ in sent[:-1])


def test_what_was_shown_is_not_new_again_and_an_empty_memory_changes_nothing(run, density, baseline, candidates):
    def scores(memory=None):
        given = {"density": density, "baseline": baseline} | ({"exposure": memory} if memory is not None else {})
        return torch.tensor(run(nodes.RarityScoreNovelty, embeddings=candidates, **given)[0])

    first = scores()
    assert torch.equal(scores(ExposureMemory(candidates.space)), first)
    again = scores(show(run, candidates))
    assert (again < 0.1).all() and first.max() > 1, "a repeat is as near as nothing unseen is"
    some = scores(show(run, candidates.select([0, 1])))
    assert (some[:2] < 0.1).all() and (some[2:] > 0.1).any()


def test_score_refuses_other_spaces_and_other_pictures(run, density, candidates, pictures):
    for inputs in (
        {"embeddings": foreign(candidates)},
        {"embeddings": candidates, "exposure": ExposureMemory(foreign(candidates).space)},
        {"embeddings": candidates, "exposure": show(run, candidates), "baseline": foreign(candidates)},
    ):
        with pytest.raises(RarityError, match="different embedding spaces"):
            run(nodes.RarityScoreNovelty, density=density, **inputs)
    with pytest.raises(RarityError, match="8 pictures but 9 embeddings"):
        run(nodes.RarityScoreNovelty, embeddings=candidates, density=density, images=pictures[1:])


# --- rank


def test_rank_keeps_pictures_embeddings_and_scores_together(run, candidates, pictures):
    scores = [0.5, 4.0, 2.0, 4.0, 9.0, 0.0, 3.0, 1.0, 8.0]
    images, embeddings, kept, indices, sheet = rank(run, pictures, candidates, scores, keep=4)
    assert kept == [9.0, 8.0, 4.0, 4.0] and indices == "4, 8, 1, 3", "of equals the earlier one"
    assert torch.equal(images, pictures[[4, 8, 1, 3]])
    assert torch.equal(embeddings.vectors, candidates.vectors[[4, 8, 1, 3]])
    assert torch.equal(run(nodes.RaritySelectEmbeddings, embeddings=candidates, indices=indices)[0].vectors, embeddings.vectors)
    assert sheet.shape[0] == 1 and sheet.shape[1] > 4 and 0 <= sheet.min() and sheet.max() <= 1
    assert rank(run, pictures, candidates, scores, keep=4, floor=5.0)[2] == [9.0, 8.0], "fewer where fewer pass"
    assert len(rank(run, pictures, candidates, scores, keep=4096)[2]) == len(scores), "more than there are keeps all"


def test_rank_gathers_what_came_as_a_list(run, candidates, pictures):
    scores = [float(i) for i in range(len(candidates))]
    ones = [candidates.select([i]) for i in range(len(candidates))]
    whole = rank(run, pictures, candidates, scores)
    parts = run(nodes.RarityRankImages, images=list(pictures.split(1)), embeddings=ones, scores=scores, keep=[4], floor=[0.0])
    assert torch.equal(parts[0], whole[0]) and parts[2:4] == whole[2:4]


def test_rank_says_what_is_wrong(run, candidates, pictures):
    scores = [1.0] * len(candidates)
    for arguments, words in (
        ((pictures, candidates, scores[1:]), "9 scores, one for each picture, got 8"),
        ((pictures[1:], candidates, scores), "8 pictures but 9 embeddings"),
        ((pictures, candidates, scores, 4, 3.0), r"the most novel has 1.00 bits \(1 in 2\), the floor is 3 bits \(1 in 8\)"),
        ((pictures, candidates, [float("nan"), *scores[1:]]), "1 of 9 scores are not a number"),
        ((pictures, candidates, scores, 0), "at least 1"),
    ):
        with pytest.raises(RarityError, match=words):
            rank(run, *arguments)
    sizes = [pictures[:4], pictures[4:, :4]]
    with pytest.raises(RarityError, match="8 x 4, 8 x 8"):
        run(nodes.RarityRankImages, images=sizes, embeddings=[candidates], scores=scores, keep=[1], floor=[0.0])
    with pytest.raises(RarityError, match="at least one picture, got an empty list.*connect pictures"):
        run(nodes.RarityRankImages, images=[], embeddings=[candidates], scores=scores, keep=[1], floor=[0.0])


@pytest.mark.parametrize("indices", ["", " , ", "one", "9", "-1", "3-1", "0-99999999999", "1.5"])
def test_select_says_what_it_can_choose(run, candidates, indices):
    with pytest.raises(RarityError, match="0 to 8"):
        run(nodes.RaritySelectEmbeddings, embeddings=candidates, indices=indices)


def test_select_takes_numbers_and_ranges_in_their_order(run, candidates):
    chosen = run(nodes.RaritySelectEmbeddings, embeddings=candidates, indices="8, 0 2-4;0")[0]
    assert torch.equal(chosen.vectors, candidates.vectors[[8, 0, 2, 3, 4, 0]])


# --- remember


def test_update_adds_and_forgets_and_leaves_what_came_in(run, candidates):
    first = show(run, candidates.select([0, 1]))
    second = show(run, candidates.select([2]), first, keep=0.5)
    assert (len(first), first.n_eff) == (2, 2.0) and (len(second), second.n_eff) == (3, 2.0)
    assert second.weights.tolist() == [0.5, 0.5, 1.0]
    assert len(show(run, candidates.select([2]), first, keep=0.0)) == 1
    with pytest.raises(RarityError, match="different embedding spaces"):
        show(run, foreign(candidates), first)


# --- compare


def test_diversity_counts_what_differs(run, baseline, candidates):
    table, vendi = run(nodes.RarityMeasureVariety, embeddings=candidates, reference=baseline)
    assert vendi == vendi_score(candidates) and "coverage" in table and "80 reference" in table
    alike = run(nodes.RarityMeasureVariety, embeddings=candidates.select([3] * 9))
    assert abs(alike[1] - 1) < 1e-6 and "coverage" not in alike[0]
    with pytest.raises(RarityError, match="at least 2 pictures, got 1"):
        run(nodes.RarityMeasureVariety, embeddings=candidates, reference=baseline.select([0]))
    with pytest.raises(RarityError, match="different embedding spaces"):
        run(nodes.RarityMeasureVariety, embeddings=candidates, reference=foreign(baseline))


def test_originality_finds_the_copy(run, baseline, candidates, pictures):
    suspects = Embeddings.cat([candidates.select([0]), baseline.select([5])])
    known = torch.rand(len(baseline), 16, 16, 3, generator=torch.Generator().manual_seed(0))
    given = {"embeddings": suspects, "reference": baseline}
    probability, table, bars = run(nodes.RarityCheckOriginality, **given)
    assert probability[1] == 1.0 and probability[0] < 0.5 and "100.0%" in table
    alone = run(nodes.RarityCheckOriginality, **given, images=pictures[:2])[2]
    beside = run(nodes.RarityCheckOriginality, **given, images=pictures[:2], reference_images=known)[2]
    assert len({bars.shape, alone.shape, beside.shape}) == 3
    one = {"embeddings": suspects, "reference": baseline.select(range(5))}
    with pytest.raises(RarityError, match="20 unrelated"):
        run(nodes.RarityCheckOriginality, **one)
    assert len(run(nodes.RarityCheckOriginality, **one, unrelated=baseline.select(range(20, 60)))[0]) == 2
    with pytest.raises(RarityError, match="79 reference pictures but 80"):
        run(nodes.RarityCheckOriginality, **given, images=pictures[:2], reference_images=known[1:])
    with pytest.raises(RarityError, match="3 pictures but 2"):
        run(nodes.RarityCheckOriginality, **given, images=pictures[:3])


# --- encode


class FakeClipVision:
    """What nodes see of ComfyUI's CLIP_VISION; tests/comfyui runs the real class."""

    image_size, image_mean, load_device, patcher = 8, (0.5, 0.5, 0.5), torch.device("cpu"), None

    def __init__(self, seed=0, per_patch=False):
        weight = torch.randn(3 * 8 * 8, 32, generator=torch.Generator().manual_seed(seed))

        def encode(pixel_values, intermediate_output):
            out = pixel_values.flatten(1) @ weight
            return None, None, out[:, None] if per_patch else out

        embeddings = types.SimpleNamespace(patch_embedding=types.SimpleNamespace(weight=torch.zeros(24, 3, 4, 4)))
        vision = types.SimpleNamespace(embeddings=embeddings, encoder=types.SimpleNamespace(layers=[None, None]))

        class Model:
            vision_model = vision
            __call__ = staticmethod(encode)

        self.model = Model()

    def encode_image(self, image, crop=True):
        return types.SimpleNamespace(image_embeds=self.model(image.movedim(-1, 1), -2)[2])


def test_encode_with_the_prior_s_own_eye(run, model, density):
    images = torch.rand(3, 24, 16, 3, generator=torch.Generator().manual_seed(0))
    embeddings = run(nodes.RarityEncodeImages, images=images, eye=model[0])[0]
    assert torch.equal(embeddings.vectors, model[0].encode_images(images).vectors)
    run(nodes.RarityScoreNovelty, embeddings=embeddings, density=density, images=images)


def test_encode_with_clip_vision_names_the_encoder_by_what_it_does(run, density):
    images = torch.rand(20, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    one, again, other = (
        run(nodes.RarityEncodeImages, images=images, eye=FakeClipVision(seed))[0] for seed in (0, 0, 1)
    )
    assert one.space == again.space and one.space.encoder == "CLIP ViT 24x2/4" and len(one) == 20
    assert one.space != other.space and one.space.width == other.space.width, "equal widths are not the same space"
    with pytest.raises(RarityError, match="different embedding spaces"):
        show(run, other, show(run, one))
    with pytest.raises(RarityError, match="different embedding spaces"):
        run(nodes.RarityScoreNovelty, embeddings=one, density=density)


def test_encode_with_an_eye_that_gives_tokens_takes_their_mean(run):
    images = torch.rand(2, 8, 8, 3)
    tokens = run(nodes.RarityEncodeImages, images=images, eye=FakeClipVision(per_patch=True))[0]
    assert tokens.vectors.shape == (2, 32), "the mean of an encoder's tokens, as of SigLIP's"
    with pytest.raises(RarityError, match="from 0 to 1"):
        run(nodes.RarityEncodeImages, images=images * 255, eye=FakeClipVision())


# --- keep on disk


def test_embeddings_are_saved_listed_and_loaded(run, baseline, folders):
    folder = folders.parent / "rarity_embeddings"
    assert not folder.exists(), "nothing is made before something is saved"
    run(nodes.RaritySaveFile, what=[baseline], name=["base"])
    assert nodes.RarityLoadEmbeddings.define_schema().inputs[0].options == ["base.safetensors"]
    loaded = run(nodes.RarityLoadEmbeddings, name="base.safetensors")[0]
    assert torch.equal(loaded.vectors, baseline.vectors) and loaded.source == baseline.source
    first = nodes.RarityLoadEmbeddings.fingerprint_inputs(name="base.safetensors")
    run(nodes.RaritySaveFile, what=[baseline.select([0])], name=["base"])
    assert first != nodes.RarityLoadEmbeddings.fingerprint_inputs(name="base.safetensors")


def test_a_memory_that_was_not_saved_yet_is_empty_where_its_space_is_known(run, candidates, folders):
    with pytest.raises(RarityError, match="seen"):
        run(nodes.RarityLoadExposure, name="seen")
    empty = run(nodes.RarityLoadExposure, name="seen", embeddings=candidates)[0]
    assert len(empty) == 0 and empty.space == candidates.space
    before = nodes.RarityLoadExposure.fingerprint_inputs(name="seen", embeddings=None)
    run(nodes.RaritySaveFile, what=[show(run, candidates, empty)], name=["seen"])
    assert before != nodes.RarityLoadExposure.fingerprint_inputs(name="seen", embeddings=None)
    for given in ({}, {"embeddings": candidates}):
        assert torch.equal(run(nodes.RarityLoadExposure, name="seen", **given)[0].vectors, candidates.vectors)


@pytest.mark.parametrize("name", ["../up", "/etc/up", "", "..", "C:\\up", "a\x00b"])
def test_no_name_leaves_its_folder(run, candidates, folders, name):
    memory, files = show(run, candidates), sorted(folders.parent.rglob("*"))
    for node, inputs in (
        (nodes.RaritySaveFile, {"what": [candidates], "name": [name]}),
        (nodes.RarityLoadEmbeddings, {"name": name}),
        (nodes.RaritySaveFile, {"what": [memory], "name": [name]}),
        (nodes.RarityLoadExposure, {"embeddings": candidates, "name": name}),
    ):
        with pytest.raises(RarityError):
            run(node, **inputs)
    assert sorted(folders.parent.rglob("*")) == files


def test_a_file_of_another_kind_or_damaged_is_one_clear_error(run, candidates, folders):
    run(nodes.RaritySaveFile, what=[candidates], name=["seen"])
    kept = folders.parent / "rarity_embeddings" / "seen.safetensors"
    (folders.parent / "rarity_exposures").mkdir()
    wrong = folders.parent / "rarity_exposures" / "seen.safetensors"
    wrong.write_bytes(kept.read_bytes())
    with pytest.raises(RarityError, match="holds embeddings, expected exposure"):
        run(nodes.RarityLoadExposure, name="seen", embeddings=candidates)
    kept.write_bytes(kept.read_bytes()[:-9])
    with pytest.raises(RarityError, match="damaged"):
        run(nodes.RarityLoadEmbeddings, name="seen")
