"""What Maple is compared with: each a script of its own that knows nothing of Maple."""
