"""Run the engine without ComfyUI: workflow files and the command line."""
