"""``python -m ring3``: the command line."""

from .cli import main

raise SystemExit(main())
