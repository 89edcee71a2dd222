"""Benchmarks against peers. Product layer (L6). Imports every layer below.

All engines take turns in one process with bound buffers; disturbed blocks are thrown away; what was
measured is stored with the machine, the versions and the spread.
"""
