"""Claude Code's PostToolUse event: points from Claude's own memory to this one."""
try:
    import os
    import sys

    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import rlm

    rlm.run_hook("PostToolUse")
except BaseException:  # whatever is wrong with rlm, the session goes on
    pass
