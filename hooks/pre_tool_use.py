"""Claude Code's PreToolUse event: advises against reading a huge file whole."""
try:
    import os
    import sys

    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import rlm

    rlm.run_hook("PreToolUse")
except BaseException:  # whatever is wrong with rlm, the session goes on
    pass
