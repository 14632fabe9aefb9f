"""Examples for ``--help`` of the verbs whose text has none of its own; shown below their options."""

from __future__ import annotations

__all__ = ["EXAMPLES"]

EXAMPLES: dict[str, tuple[str, ...]] = {
    "tree": ("dreamlake tree vision/run-1 -L 2", "dreamlake tree vision"),
    "info": ("dreamlake info", "dreamlake info vision/run-1", "dreamlake info vision/run-1:/models/best.pth@v2"),
    "history": ("dreamlake history vision/run-1:/models/best.pth",),
    "cat": ("dreamlake cat vision/run-1:/config.json", "dreamlake cat vision/run-1:/logs.txt@v1 | head"),
    "link": ("dreamlake link vision/run-1:/models/best.pth --expires 86400",),
    "rm": ("dreamlake rm vision/run-1:/models/old.pth", "dreamlake rm -r vision/run-1:/tmp --dry-run"),
    "restore": ("dreamlake restore vision/run-1:/models/old.pth", "dreamlake restore vision/run-1:/config.json@v2"),
    "mv": (
        "dreamlake mv vision/run-1:/a.pth vision/run-1:/models/",
        "dreamlake mv vision/run-1:/old vision/run-1:/b",
    ),
    "cp": ("dreamlake cp vision/run-1:/models/best.pth vision/run-2:/start.pth",),
    "alias": (
        "dreamlake alias vision/run-1:/models/model.pth best",
        "dreamlake alias vision/run-1:/models/model.pth@v3 best",
    ),
    "verify": ("dreamlake verify", "dreamlake verify --deep --shard 3/16"),
    "repair": ("dreamlake repair --dry-run", "dreamlake repair --from /backup/lake"),
    "stats": ("dreamlake stats",),
    "du": ("dreamlake du", "dreamlake du vision/run-1 --by path --depth 2"),
    "why": ("dreamlake why 4355a4",),
    "optimize": ("dreamlake optimize --dry-run", "dreamlake optimize vision"),
    "settings": ("dreamlake settings", "dreamlake settings --encoding raw"),
    "materialize": ("dreamlake materialize vision/run-1 --to out", "dreamlake materialize --check"),
    "remote add": ('dreamlake remote add team "s3://bucket/lake?mongodb=mongodb%3A%2F%2Fhost%2Flake"',),
    "remote list": ("dreamlake remote list",),
    "remote remove": ("dreamlake remote remove team",),
    "remote test": ("dreamlake remote test team",),
    "doctor": ("dreamlake doctor",),
    "demo": ("dreamlake demo", "dreamlake demo ./tour"),
    "help": ("dreamlake help addresses", "dreamlake help find"),
}
