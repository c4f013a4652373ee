"""Claude Code's SessionStart event: hands back what a compaction lost, or where this project stands."""
try:
    import os
    import sys

    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import rlm

    rlm.run_hook("SessionStart")
except BaseException:  # whatever is wrong with rlm, the session goes on
    pass
