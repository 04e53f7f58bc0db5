"""Turn images that were made elsewhere into scored groups."""
