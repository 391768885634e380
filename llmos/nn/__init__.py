"""The one forward pass: loading, packing, attention, adapters, heads."""
