"""What a lake can do, one module a verb. Operations know the two protocols, never an implementation.

Destructive or bulk work is always a plan (pure, printable: what ``--dry-run`` shows) and then its execution.
"""
