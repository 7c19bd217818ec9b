"""The command: ``python -m tests.golden [--check]``."""

import sys
from pathlib import Path

from tests.golden.pages import PAGES, differences

FOLDER = Path(__file__).resolve().parent


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: python -m tests.golden [--check]", file=sys.stderr)
        return 2
    if arguments:
        found = "".join(differences(FOLDER))
        print(found, end="")
        if found:
            print("The goldens differ. If that is meant: `make golden`, and read the diff.", file=sys.stderr)
        return 1 if found else 0
    for name, made in PAGES.items():
        (FOLDER / name).write_text(made())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
