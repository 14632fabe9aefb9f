"""Helpers of the tests are packages below this folder: ``from simulation.simfs import SimFs``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
