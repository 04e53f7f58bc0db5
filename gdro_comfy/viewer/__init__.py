"""What a viewer reads of runs, addressed by name only."""
