"""Conformance suites, fakes and harnesses, shipped for people who write an operation, a backend or a store."""
