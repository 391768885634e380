"""Generation: the KV cache, paged attention, sequences, sampling, and constraints of generation_config.json."""
