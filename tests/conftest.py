"""For every test: no test asserts on time, so no example of a property has a deadline."""

from hypothesis import settings

settings.register_profile("fathom", deadline=None)
settings.load_profile("fathom")
