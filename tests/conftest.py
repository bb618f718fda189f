"""For all tests."""

from hypothesis import settings

# How long one example takes says more about what else the machine does than about us.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
