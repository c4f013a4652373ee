"""Claude Code's PreCompact event: saves the conversation before it is compacted."""
try:
    import os
    import sys

    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import rlm

    rlm.run_hook("PreCompact")
except BaseException:  # whatever is wrong with rlm, the session goes on
    pass
