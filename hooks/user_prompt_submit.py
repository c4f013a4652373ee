"""Claude Code's UserPromptSubmit event: shows memories that the prompt is about."""
try:
    import os
    import sys

    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import rlm

    rlm.run_hook("UserPromptSubmit")
except BaseException:  # whatever is wrong with rlm, the session goes on
    pass
