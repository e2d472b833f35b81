"""multiplexer.toml: text in, a Config or every error of it out.

Reading goes from text to tables (tomllib), from tables to values (one function
for each type of value), and from values to a Config (whatever takes a look at
more than one key).  Each kind of table looks back only: networks at uplinks,
vifs and grants at networks.

An error does not end it.  What depends on a wrong value is left out and all
else is still checked, so that one run of ``multiplexerd --check`` finds all
that there is to find.  Only the text is judged: whether a user or an interface
exists is not known here.
"""

from .keys import KEYS
from .parse import parse_config

__all__ = ["KEYS", "parse_config"]
