"""The code that runs inside the environment's own interpreter: standard library only, Python 3.10+."""
