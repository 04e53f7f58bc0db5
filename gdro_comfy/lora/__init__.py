"""The LoRA file: its keys, its header, and a finished LoRA as the start of a training."""
