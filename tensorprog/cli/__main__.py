"""`python -m tensorprog.cli` is `tpc`."""

import sys

from tensorprog.cli import main

sys.exit(main())
