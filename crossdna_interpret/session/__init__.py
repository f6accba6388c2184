"""The state of an explorer: edits with undo, results and a pinned sequence.

It does not depend on widgets, so it can be used and tested without them.
"""

from crossdna_interpret.session.computing import Results
from crossdna_interpret.session.history import History, Step
from crossdna_interpret.session.session import Comparison, Method, Session, examples

__all__ = ["Comparison", "History", "Method", "Results", "Session", "Step", "examples"]
