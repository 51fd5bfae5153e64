"""What the package has from Rust."""

import os
from collections.abc import Sequence

VERSION: str

def main(arguments: Sequence[str | os.PathLike[str]]) -> int: ...
