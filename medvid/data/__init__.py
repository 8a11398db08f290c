"""Records -> batches: labels, splits, store, samplers, dataset, loader, phantoms."""
