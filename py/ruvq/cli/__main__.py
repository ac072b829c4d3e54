"""`python -m ruvq.cli`: the same as `ruvq`."""

import sys

from .main import main

sys.exit(main())
