"""L6 product: the only place that chooses implementations, and what people touch. Sees every layer below."""
