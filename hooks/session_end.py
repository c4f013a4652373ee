"""Claude Code's SessionEnd event: saves the rest of the conversation."""
try:
    import os
    import sys

    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import rlm

    rlm.run_hook("SessionEnd")
except BaseException:  # whatever is wrong with rlm, the session goes on
    pass
