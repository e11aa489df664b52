"""The square pictures of the template browser: cut from what a workflow draws, or a diagram where its model is not here."""

from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
SIDE = 512
BADGE = 80  # the template browser writes "Node graph" over so much of the top
BACK, LINE, TEXT, OURS, THEIRS = "#f6f5f1", "#9aa3aa", "#23282c", "#f2d3ba", "#ffffff"


def cut(picture, part):
    """The part (left, top, right, bottom: shares of the picture) in a square, on the colour of the picture's corner."""
    width, height = picture.size
    box = [round(share * size) for share, size in zip(part, (width, height, width, height), strict=True)]
    piece = picture.crop(box)
    side = max(piece.size)
    square = Image.new("RGB", (side, side), picture.getpixel((0, 0)))
    square.paste(piece, ((side - piece.width) // 2, (side - piece.height) // 2))
    return square.resize((SIDE, SIDE), Image.LANCZOS)


def diagram(title, steps):
    """A title above boxes with arrows between them; the steps that end in * are this pack's."""
    picture = Image.new("RGB", (SIDE, SIDE), BACK)
    draw = ImageDraw.Draw(picture)
    for place, line in enumerate(title.split("\n")):
        draw.text((SIDE / 2, BADGE + 24 + 44 * place), line, fill=TEXT, font=_font(line, 38, SIDE - 40), anchor="mm")
    top = BADGE + 32 + 44 * len(title.split("\n"))
    pitch = (SIDE - 24 - top) / len(steps)
    for place, step in enumerate(steps):
        y = top + pitch * place
        words, color = (step[:-1], OURS) if step.endswith("*") else (step, THEIRS)
        draw.rounded_rectangle((56, y, SIDE - 56, y + pitch - 26), 8, fill=color, outline=LINE, width=2)
        draw.text((SIDE / 2, y + (pitch - 26) / 2), words, fill=TEXT, font=_font(words, 26, SIDE - 140), anchor="mm")
        if place:
            draw.line((SIDE / 2, y - 24, SIDE / 2, y - 8), fill=LINE, width=4)
            draw.polygon([(SIDE / 2 - 8, y - 11), (SIDE / 2 + 8, y - 11), (SIDE / 2, y - 2)], fill=LINE)
    return picture


def _font(words, size, width):
    """The font in which the words are not wider than `width`."""
    while size > 12 and ImageFont.truetype(FONT, size).getlength(words) > width:
        size -= 1
    return ImageFont.truetype(FONT, size)
