"""Draw the icon that ComfyUI's registry and Manager show: many usual dots, and one on the shell that is rare.

    python tools/icon.py        writes web/icon.png
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

PATH = Path(__file__).resolve().parents[1] / "web" / "icon.png"
SIDE, FINER = 256, 4  # pixels; drawn larger and shrunk, which smooths edges
BACK, USUAL, SHELL, RARE = "#23282c", "#9aa3aa", "#5f6a72", "#e0b040"
SPREAD, RADIUS, ANGLE = 0.12, 0.36, -0.9  # shares of the side; radians


def icon():
    """The picture, [SIDE, SIDE] with transparent corners."""
    side = SIDE * FINER
    picture = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(picture)

    def dot(x, y, radius, **how):
        draw.ellipse([side * (x - radius), side * (y - radius), side * (x + radius), side * (y + radius)], **how)

    draw.rounded_rectangle((0, 0, side - 1, side - 1), side // 6, fill=BACK)
    dot(0.5, 0.5, RADIUS, outline=SHELL, width=side // 80)
    for x, y in 0.5 + SPREAD * np.random.default_rng(1).normal(size=(70, 2)).clip(-2, 2):
        dot(x, y, 0.015, fill=USUAL)
    dot(0.5 + RADIUS * np.cos(ANGLE), 0.5 + RADIUS * np.sin(ANGLE), 0.065, fill=RARE)
    return picture.resize((SIDE, SIDE), Image.LANCZOS).quantize(64)


if __name__ == "__main__":
    icon().save(PATH, optimize=True)
