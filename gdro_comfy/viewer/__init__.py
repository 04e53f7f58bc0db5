"""What a viewer reads of runs, by name only."""
