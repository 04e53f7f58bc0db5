"""ComfyUI's MODEL, CLIP and VAE behind the engine's FlowModel contract."""
