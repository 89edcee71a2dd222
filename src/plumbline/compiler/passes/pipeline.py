"""The passes in their order. The graph is verified after each one."""

from __future__ import annotations

from collections.abc import Callable

from plumbline.compiler.graph.graph import ExecutionGraph
from plumbline.compiler.graph.verify import verify
from plumbline.compiler.passes.assign_halos import assign_halos
from plumbline.compiler.passes.copy_shared_outputs import copy_shared_outputs
from plumbline.compiler.passes.fold_channel_scales import fold_channel_scales
from plumbline.compiler.passes.fold_constants import fold_constants
from plumbline.compiler.passes.fuse_epilogues import fuse_epilogues
from plumbline.compiler.passes.fuse_maps import fuse_maps
from plumbline.compiler.passes.gather_own_rows import gather_own_rows
from plumbline.compiler.passes.lay_out_images import lay_out_images
from plumbline.compiler.passes.pack_matrix_products import pack_matrix_products
from plumbline.compiler.passes.recognise_activations import recognise_activations
from plumbline.compiler.passes.report import PassReport
from plumbline.compiler.passes.sink_channel_shuffles import sink_channel_shuffles
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["PASSES", "PassReport", "run_passes"]

GraphPass = Callable[[ExecutionGraph, TargetDescription, PassReport], ExecutionGraph]

PASSES: tuple[GraphPass, ...] = (
    fold_constants,
    gather_own_rows,
    fold_channel_scales,
    sink_channel_shuffles,
    lay_out_images,
    pack_matrix_products,
    fuse_maps,
    recognise_activations,
    fuse_epilogues,
    assign_halos,
    copy_shared_outputs,
)


def run_passes(graph: ExecutionGraph, target: TargetDescription) -> tuple[ExecutionGraph, PassReport]:
    """Rewrite a graph for a target.

    Raises:
        InvalidGraph: a pass broke a rule (a defect of that pass).
    """
    report = PassReport()
    for subject, detail in graph.notes:
        report.note("import", "noted", subject, detail)
    for rewrite in PASSES:
        changed = rewrite(graph, target, report)
        if changed is not graph:
            verify(changed)
            graph = changed
    return graph, report
