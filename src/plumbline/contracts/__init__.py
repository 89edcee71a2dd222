"""The nouns that cross a border: dimensions, tensors, programs, ids, time. Imports nothing above `errors`."""
