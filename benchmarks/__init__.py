"""Side-by-side runs against peers, printed as ratios."""
