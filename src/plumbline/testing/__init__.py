"""Conformance suites and fakes, shipped for people who write a backend. Imports all layers below product."""
