"""A tokenizer of Mistral's kind that is made up: a model file brings its tokenizer along, and those of real models are not ours."""

import base64
import json

SIGNS = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", *(f"<{i}>" for i in range(5, 11)), "<pad>", *(f"<{i}>" for i in range(12, 17)),
         "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")  # by their numbers, as Mistral has them
PIECES = [*(bytes([i]) for i in range(256)), *(word[:n] for word in (b"chair", b" chair") for n in range(2, len(word) + 1))]
VOCABULARY = len(SIGNS) + len(PIECES)


def tekken():
    """The bytes of the tokenizer's file."""
    return json.dumps({
        "config": {"default_num_special_tokens": len(SIGNS), "default_vocab_size": VOCABULARY},
        "vocab": [{"rank": i, "token_bytes": base64.b64encode(piece).decode()} for i, piece in enumerate(PIECES)],
        "special_tokens": [{"rank": i, "token_str": sign} for i, sign in enumerate(SIGNS)],
    }).encode()
