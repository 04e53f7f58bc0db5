"""Sample groups of images for prompts, score them, and sample a few loose images."""
