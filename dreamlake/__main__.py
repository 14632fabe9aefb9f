"""``python -m dreamlake``: the same as the ``dreamlake`` command."""

from __future__ import annotations

from dreamlake.cli import main

if __name__ == "__main__":
    main()
