"""Bring every server that is not there yet; done before, it is done at once."""

import sys

from tests.servers.debian import ALL
from tests.servers.debian.bring import bring

sys.exit(bring(ALL))
