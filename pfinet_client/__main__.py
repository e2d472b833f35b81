"""`python -m pfinet_client` is `pfinet`."""

import sys

from pfinet_client.cli import main

sys.exit(main())
