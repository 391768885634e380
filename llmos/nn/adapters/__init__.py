"""LoRA adapters and task heads: in memory, in training, and in their files."""
