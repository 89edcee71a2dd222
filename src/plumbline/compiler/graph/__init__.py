"""The execution graph: immutable, typed, with symbolic shapes, a content hash and a text form."""
