"""Run the engine without ComfyUI: the command line and workflow files."""
