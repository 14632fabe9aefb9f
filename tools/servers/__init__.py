"""Real servers for trying remote mode out and for the tests: an S3 server (SeaweedFS) and one that speaks MongoDB's
wire protocol (SecantusDB), both from PyPI, on free ports of this machine, with their data in a temporary folder.

    python3 -m tools.servers run -- COMMAND     start both, run COMMAND with their addresses in its environment, stop
    python3 -m tools.servers start              start both, print their addresses; they run until `stop`
    python3 -m tools.servers stop

What they store is gone when they stop. Nothing here is for production.
"""
