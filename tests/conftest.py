"""For all tests."""

import os

from hypothesis import settings

# How long one example takes says more about what else the machine does than about us; and what `make test` says is
# to follow from what it tests, so that only `make soak` looks for examples nobody has seen.
settings.register_profile("any machine", deadline=None, derandomize="SOAK_EXAMPLES" not in os.environ)
settings.load_profile("any machine")
