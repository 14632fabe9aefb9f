"""Other stores on the same files: stored bytes, and times of ingest and read-back against a plain copy that hashes.

    python -m tools.peers --install            installs what is missing, each peer in a place of its own
    python -m tools.peers SERIES_DIR           the table, as Markdown

One module a peer. A peer that cannot be installed or fails is a row of the table that says so.
"""
