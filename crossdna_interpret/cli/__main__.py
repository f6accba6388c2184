"""``python -m crossdna_interpret.cli``."""

from crossdna_interpret.cli import main

raise SystemExit(main())
