"""LoRA files: their keys, their header, and a finished LoRA as the start of a training."""
