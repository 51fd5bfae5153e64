"""The command line: ``python -m taylorscope``, or the command ``taylorscope``."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the program with the arguments of this process, and ends with its exit code."""
    from taylorscope import _native

    sys.exit(_native.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
