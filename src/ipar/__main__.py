"""``python -m ipar``."""

import sys

from ipar._cli import main

sys.exit(main())
