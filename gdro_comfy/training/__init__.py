"""Train a LoRA on scored groups: objectives, the loop, rounds, validation, memory."""
