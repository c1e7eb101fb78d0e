"""The budget of property tests that do not set one of their own."""

from hypothesis import settings

from tests.support.budget import examples

settings.register_profile("budget", max_examples=examples(100))
# Examples of a soak run for hours beside other work, so how long one takes says nothing.
settings.register_profile("soak", max_examples=examples(100), deadline=None)
settings.load_profile("budget" if examples(1) == 1 else "soak")
