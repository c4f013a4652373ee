"""Claude Code's PostCompact event: keeps the summary that a compaction made."""
try:
    import os
    import sys

    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import rlm

    rlm.run_hook("PostCompact")
except BaseException:  # whatever is wrong with rlm, the session goes on
    pass
