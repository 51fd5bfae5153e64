#!/usr/bin/env python3
"""Packs the handwritten digits of scikit-learn into digits.bin.gz.

Needs numpy and scikit-learn. Run it in this folder:

    python3 pack_digits.py

Layout of the unpacked bytes, in scikit-learn's row order:

    1797 * 64 bytes   pixels, one byte each (0..16), image after image, row-major
    1797 bytes        labels (0..9)

The result depends on the data alone: the gzip header carries neither a time nor
a file name.
"""

import gzip
import hashlib
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

IMAGES, FEATURES = 1797, 64


def main() -> None:
    digits = load_digits()
    pixels = digits.data.astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    # The byte conversion must lose nothing.
    assert pixels.shape == (IMAGES, FEATURES) and labels.shape == (IMAGES,)
    assert np.array_equal(pixels, digits.data) and pixels.max() == 16
    assert np.array_equal(labels, digits.target) and labels.max() == 9

    unpacked = pixels.tobytes() + labels.tobytes()
    packed = gzip.compress(unpacked, compresslevel=9, mtime=0)
    Path(__file__).with_name("digits.bin.gz").write_bytes(packed)
    print(f"{len(packed)} bytes packed, {len(unpacked)} bytes unpacked")
    print(f"SHA-256 of the unpacked bytes: {hashlib.sha256(unpacked).hexdigest()}")


if __name__ == "__main__":
    main()
