"""Of what takes long, `make test` tries a part and `make soak` the whole: it says so with `WHOLE=1`."""

import os

IS_WHOLE = os.environ.get("WHOLE") == "1"
