"""The works, one file for each kind of end that they are done at."""
