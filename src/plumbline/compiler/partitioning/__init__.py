"""A graph over several backends: select one for every node, split, compile each part, record why."""

from plumbline.compiler.partitioning.native_backend import NativeBackend
from plumbline.compiler.partitioning.partitioned_build import PartitionOptions, partition_graph
from plumbline.compiler.partitioning.selection import OperationUnplaced, PlacementRefused

__all__ = ["NativeBackend", "OperationUnplaced", "PartitionOptions", "PlacementRefused", "partition_graph"]
