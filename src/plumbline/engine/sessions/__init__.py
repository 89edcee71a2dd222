"""What a loaded version can be: a model, an encoder of texts, a Python class, a pipeline of those."""
