"""Claude Code's PostToolUse event: points from Claude's own memory to this one."""
import gc
import os
import sys
try:
    gc.disable()  # before there is much to collect, a hook has ended
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import rlm
    rlm.run_hook("PostToolUse")
except BaseException:  # whatever is wrong with rlm, the session goes on
    pass
os._exit(0)  # without taking the interpreter apart first, which takes as long as the work
