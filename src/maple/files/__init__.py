"""Where bytes come from: Hub data files at a pinned revision, or a directory of release files."""

from maple.files.hub import Drift, Hub
from maple.files.lock import Lock
from maple.files.source import Files

__all__ = ["Drift", "Files", "Hub", "Lock"]
