"""The tests of rlm: `python3 -m unittest` from the project's root runs them all, offline, with nothing installed."""
