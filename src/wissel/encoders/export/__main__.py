"""Makes the exports of an encoder where they are missing, and says what it did: joint, minilm, use or strong."""

import logging
import sys
import time

from wissel.encoders.export.packaged import MADE_OF, export
from wissel.errors import ModelError


def main() -> int:
    names = sys.argv[1:] or ["joint"]
    # Both libraries report their progress as warnings.
    logging.disable(logging.WARNING)
    for name in names:
        if name not in MADE_OF:
            print(f'"{name}" is none of {", ".join(MADE_OF)}', file=sys.stderr)
            return 2
        began = time.monotonic()
        try:
            folders = export(name)
        except ModelError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{name}: {', '.join(map(str, folders))} ({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
