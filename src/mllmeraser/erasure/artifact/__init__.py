"""The eraser as an artifact: manifest, tensors, folder, hub."""
