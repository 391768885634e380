"""The training methods: a declaration in a file each, found by `llmos.abi.method`."""
