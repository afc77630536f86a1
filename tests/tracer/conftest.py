"""Properties are searched without a deadline: on a busy machine it is a matter of luck."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
