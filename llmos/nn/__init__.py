"""The model's forward pass: loading, packing, attention, generation, adapters and text."""
