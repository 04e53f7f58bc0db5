"""What lies on disk and on the wires: files, runs, groups, prompts, ratings, LoRA weights."""
