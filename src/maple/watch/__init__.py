"""A live page of a store: progress, loss, scores so far, failures; read-only, loopback only."""

from maple.watch.server import WatchServer, open_server
from maple.watch.state import Watcher

__all__ = ["WatchServer", "Watcher", "open_server"]
