"""A stack of one's own behind trio's sockets.

    async with open_stack("lab") as stack:
        stack.install()
        ...                     # unchanged trio libraries, over the stack

`open_stack` attaches to a vif and makes a stack there for this program alone;
`connect_stack` uses one that `pfinet serve` runs for all of the user's.
"""

from pfinet_client.errors import StackError
from pfinet_client.stack.opening import connect_stack, open_stack
from pfinet_client.stack.resolver import StackResolver
from pfinet_client.stack.stack import Stack

__all__ = ["Stack", "StackError", "StackResolver", "connect_stack", "open_stack"]
