"""Writes tests/data/images: small PNG and JPEG files of every kind that is read, and the samples Pillow reads from them.

    pip install pillow numpy && python tests/oracle/make_images.py
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 5, 4


def main():
    folder = Path(__file__).parents[1] / "data" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    rgb = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    opaque = np.concatenate([rgb, np.full((HEIGHT, WIDTH, 1), 255, np.uint8)], axis=2)
    clear = opaque.copy()
    clear[2, 1, 3] = 128
    deep = rng.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
    rows, columns = np.mgrid[0:19, 0:18]
    # Smooth, as JPEG is made for, and larger than one of its 8x8 blocks.
    smooth = np.stack([10 * rows, 12 * columns, 128 + 5 * (rows - columns)], axis=2).clip(0, 255).astype(np.uint8)

    images = {
        "grey.png": (Image.fromarray(grey), {}),
        "rgb.png": (Image.fromarray(rgb), {}),
        "rgba.png": (Image.fromarray(opaque), {}),
        "transparent.png": (Image.fromarray(clear), {}),
        "palette.png": (Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE, colors=7), {}),
        "bilevel.png": (Image.fromarray(grey).convert("1"), {}),
        "deep.png": (Image.fromarray(deep), {}),
        "rgb.jpg": (Image.fromarray(smooth), {"quality": 90, "subsampling": 0}),
        "progressive.jpg": (Image.fromarray(smooth), {"quality": 90, "subsampling": 0, "progressive": True}),
        "grey.jpg": (Image.fromarray(smooth[:, :, 0]), {"quality": 90}),
    }
    expected = {}
    for name, (image, options) in images.items():
        image.save(folder / name, **options)
        if name == "transparent.png":
            continue
        read = Image.open(folder / name)
        most = 65535 if name == "deep.png" else 255
        if name == "deep.png":
            samples = np.asarray(read).astype(int)
        else:
            samples = np.asarray(read.convert("L" if read.mode in ("L", "1") else "RGB"))
        samples = samples.reshape(*samples.shape[:2], -1).tolist()
        expected[name] = {"most": most, "samples": samples}
    (folder / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
