"""The machine that Plumbline runs on: measured facts, mappings of memory and files."""
