"""The store: blobs by digest, names -> manifests, datasets, resident forms, garbage collection."""
