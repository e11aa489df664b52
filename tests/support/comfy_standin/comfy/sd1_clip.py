"""Stand-in for `comfy.sd1_clip`: no embedding file is there."""


def load_embed(embedding_name, embedding_directory, embedding_size, embed_key=None):
    return None
