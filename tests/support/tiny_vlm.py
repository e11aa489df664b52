"""Small vision-language models with random weights, in the real format: config, safetensors, tokenizer, processor, template."""

import torch

WORDS = "is this still a an letter r ? yes or no . the picture shows user assistant : Is Yes No YES".split()
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)


def tokenizer(*special):
    """A tokenizer with one token for each word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", "<pad>", "<s>", "</s>", *WORDS]
    plain = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    made.add_special_tokens({"additional_special_tokens": list(special)})
    return made


def build_llava(folder):
    """LLaVA: CLIP's vision tower and a Llama, with a chat template."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    words = tokenizer("<image>")
    vision = CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8)
    text = LlamaConfig(vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=words.convert_tokens_to_ids("<image>"), vision_feature_layer=-1, image_seq_length=4)
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    pictures = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    LlavaProcessor(
        pictures, words, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    ).save_pretrained(folder)
    return folder


def build_paligemma(folder):
    """PaliGemma: SigLIP and a Gemma, which takes questions without a chat template."""
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
        SiglipVisionConfig,
    )

    pictures = SiglipImageProcessor(size={"height": 16, "width": 16})
    pictures.image_seq_length = 4
    processor = PaliGemmaProcessor(pictures, tokenizer("<image>"))
    words = processor.tokenizer
    vision = SiglipVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8, projection_dim=16)
    text = GemmaConfig(vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8, tie_word_embeddings=False)
    config = PaliGemmaConfig(vision_config=vision, text_config=text, image_token_index=words.convert_tokens_to_ids("<image>"), vocab_size=len(words), projection_dim=16, tie_word_embeddings=False)
    torch.manual_seed(0)
    PaliGemmaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def build_qwen2_vl(folder):
    """Qwen2-VL: pictures of any size, as rows of patches with their own positions."""
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    special = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    words = tokenizer(*special)
    start, end, picture, video = words.convert_tokens_to_ids(special)
    config = Qwen2VLConfig(
        text_config=dict(
            vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, rope_scaling={"type": "mrope", "rope_type": "default", "mrope_section": [1, 1, 2]},
        ),
        vision_config=dict(depth=2, embed_dim=16, hidden_size=16, num_heads=2, mlp_ratio=2, patch_size=4),
        image_token_id=picture, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
    )
    torch.manual_seed(0)
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    sizes = {"patch_size": 4, "min_pixels": 64, "max_pixels": 4096}
    Qwen2VLProcessor(
        Qwen2VLImageProcessor(**sizes), words, Qwen2VLVideoProcessor(**sizes),
        chat_template=TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    ).save_pretrained(folder)
    return folder


BUILDERS = {"llava": build_llava, "paligemma": build_paligemma, "qwen2_vl": build_qwen2_vl}


def teach(folder, yes, no):
    """Set the last layer so that the answer is Yes to pictures like `yes` [1, H, W, 3], No to pictures like `no`.

    h is the input of that layer. logit(Yes) = a'h = -logit(No), with a'h(yes) = 8 and a'h(no) = -8; all other logits
    are 0.
    """
    from rarity.generators.judges.vlm import Vlm, VlmJudge

    judge, seen = VlmJudge(Vlm(folder), "a letter r"), []
    last = judge._model._model.get_output_embeddings()
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0, -1].double()))
    for pictures in (yes, no):
        judge._model.next_word(judge._prompt, pictures)
    handle.remove()
    answer = torch.linalg.lstsq(torch.stack(seen), torch.tensor([[8.0], [-8.0]], dtype=torch.float64), driver="gelsd").solution[:, 0]
    with torch.no_grad():
        last.weight.zero_()
        last.weight[judge._model._tokenizer.convert_tokens_to_ids("Yes")] = answer.float()
        last.weight[judge._model._tokenizer.convert_tokens_to_ids("No")] = -answer.float()
    judge._model._model.save_pretrained(folder)
    return folder
