"""Small timings that show a change for the worse from one commit to the next: `asv run` in the folder above."""
