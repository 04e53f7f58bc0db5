"""Flow models behind one contract: families, files, loading, quantization, offloading."""
