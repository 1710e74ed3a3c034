"""What every test runs under: no property fails because another process had the machine, nor because of what was drawn today.

`make test` tries the same inputs in every run; `make test-random` draws others, and what it finds becomes an `@example`.
"""

from hypothesis import settings

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None)
settings.load_profile("same")
