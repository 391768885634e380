"""What holds for every test: hypothesis does not time examples, for a busy machine is no fault of the code."""

from hypothesis import settings

settings.register_profile("llmos", deadline=None)
settings.load_profile("llmos")
