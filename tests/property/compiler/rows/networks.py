"""Small graphs over a batch `[N, ...]`, by name: what is proved of them is held against runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from plumbline.compiler.graph.builder import GraphBuilder
from plumbline.compiler.graph.graph import ExecutionGraph, TensorID
from plumbline.contracts.dims import mul, symbol
from plumbline.contracts.tensors import DType, TensorType

F32, I64 = DType.FLOAT32, DType.INT64
N, T = symbol("N"), symbol("T")
BOUND, LONGEST = 9, 5
Body = Callable[[GraphBuilder, TensorID], "TensorID | tuple[TensorID, ...]"]


def weight(b: GraphBuilder, *shape: int) -> TensorID:
    """A constant with fixed numbers."""
    rng = np.random.default_rng([7, *shape])
    return b.constant(rng.standard_normal(shape).astype(np.float32) * 0.5)


def graph_of(body: Body, *tail: int | str, dtype: DType = F32) -> ExecutionGraph:
    """One input `x [N, *tail]`; "T" in the tail is a second symbol."""
    extents = tuple(T if d == "T" else d for d in tail)
    b = GraphBuilder("rows", {"N": BOUND, **({"T": LONGEST} if "T" in tail else {})})
    made = body(b, b.input("x", TensorType(dtype, (N, *extents))))
    for position, result in enumerate((made,) if isinstance(made, str) else made):
        b.output(f"y{position}", result)
    return b.build()


def attention(b: GraphBuilder, x: TensorID) -> TensorID:
    """One head over `[N, T, 8]` with the batch merged into tokens for the projections, as exporters do."""
    flat = b.add1("reshape", [x], {"shape": (mul(N, T), 8)})
    parts = [b.add1("matmul", [flat, weight(b, 8, 8)]) for _ in range(3)]
    q, k, v = (b.add1("reshape", [p], {"shape": (N, T, 2, 4)}) for p in parts)
    q, v = (b.add1("transpose", [p], {"perm": (0, 2, 1, 3)}) for p in (q, v))
    k = b.add1("transpose", [k], {"perm": (0, 2, 3, 1)})
    scores = b.add1("softmax", [b.add1("matmul", [q, k])], {"axis": -1})
    mixed = b.add1("transpose", [b.add1("matmul", [scores, v])], {"perm": (0, 2, 1, 3)})
    merged = b.add1("reshape", [mixed], {"shape": (N, T, 8)})
    return b.add1("layer_normalization", [b.add1("add", [x, merged]), weight(b, 8), weight(b, 8)])


def time_first(b: GraphBuilder, x: TensorID) -> TensorID:
    """The batch travels on axis 1 and inside a merged axis, and comes back."""
    turned = b.add1("transpose", [x], {"perm": (1, 0, 2)})
    merged = b.add1("reshape", [turned], {"shape": (mul(T, N), 8)})
    product = b.add1("gemm", [merged, weight(b, 6, 8)], {"transpose_b": True})
    apart = b.add1("reshape", [product], {"shape": (T, N, 6)})
    summed = b.add1("reduce_sum", [apart], {"axes": (0,), "keepdims": False})
    return b.add1("tanh", [summed])


def convolution(b: GraphBuilder, x: TensorID) -> TensorID:
    """Image network: convolution, pool, flatten, classifier."""
    conv = {"strides": (1, 1), "dilations": (1, 1), "pads": (1, 1, 1, 1), "group": 1}
    y = b.add1("relu", [b.add1("conv", [x, weight(b, 8, 3, 3, 3), weight(b, 8)], conv)])
    y = b.add1("global_average_pool", [y])
    y = b.add1("reshape", [y], {"shape": (N, 8)})
    return b.add1("softmax", [b.add1("matmul", [y, weight(b, 8, 5)])], {"axis": 1})


def recurrent(b: GraphBuilder, x: TensorID) -> TensorID:
    """An LSTM with time first, whose last state is the result."""
    turned = b.add1("transpose", [x], {"perm": (1, 0, 2)})
    _, h, _ = b.add("lstm", [turned, weight(b, 1, 8, 24), weight(b, 1, 6, 24), weight(b, 1, 48)])
    return b.add1("reshape", [h], {"shape": (N, 6)})


def lookup(b: GraphBuilder, x: TensorID) -> TensorID:
    """Embedding of ids."""
    return b.add1("gather", [weight(b, 11, 6), x], {"axis": 0})


def filled(b: GraphBuilder, x: TensorID) -> TensorID:
    """A class token in front of every sequence, repeated for each row."""
    token = b.add1("expand", [weight(b, 1, 1, 8)], {"shape": (N, 1, 8)})
    return b.add1("concat", [token, x], {"axis": 1})


def best(b: GraphBuilder, x: TensorID) -> tuple[TensorID, ...]:
    """Largest values with their places."""
    return b.add("top_k", [x], {"k": 3, "axis": -1})


def written_columns(b: GraphBuilder, x: TensorID) -> TensorID:
    """Slices written by fixed numbers, with the batch inside the slice."""
    turned = b.add1("transpose", [x], {"perm": (1, 0, 2)})
    parts = b.add1("slice", [b.add1("tanh", [turned])], {
        "starts": (0, 0, 0), "sizes": (2, N, 3), "steps": (1, 1, 1)
    })  # fmt: skip
    places = b.constant(np.array([[3], [1]], np.int64))
    written = b.add1("scatter_nd", [turned, places, parts], {"reduction": "add"})
    return b.add1("transpose", [written], {"perm": (1, 0, 2)})


def boxes(x1: TensorID, b: GraphBuilder) -> TensorID:
    """Numbers of any size made into boxes inside an image of 6 by 6: `[N, 4]`."""
    corner = b.add1("sigmoid", [b.add1("slice", [x1], {"starts": (0, 0), "sizes": (N, 2), "steps": (1, 1)})])
    size = b.add1("sigmoid", [b.add1("slice", [x1], {"starts": (0, 2), "sizes": (N, 2), "steps": (1, 1)})])
    both = b.add1("concat", [corner, b.add1("add", [corner, size])], {"axis": 1})
    return b.add1("mul", [both, b.constant(np.float32([[2.5]]))])


def regions(b: GraphBuilder, x: TensorID) -> TensorID:
    """Regions by row of fixed images."""
    image = b.add1("arg_max", [x], {"axis": 1, "keepdims": False})
    return b.add1("roi_align", [weight(b, 4, 2, 6, 6), boxes(x, b), image], ALIGN)


def largest_in_regions(b: GraphBuilder, x: TensorID) -> TensorID:
    """The same with the image in front of the box."""
    image = b.add1("cast", [b.add1("arg_max", [x], {"axis": 1, "keepdims": True})], {"to": F32})
    joined = b.add1("concat", [image, boxes(x, b)], {"axis": 1})
    return b.add1("max_roi_pool", [weight(b, 4, 2, 6, 6), joined], {"pooled": (2, 3), "spatial_scale": 1.0})


def own_places(b: GraphBuilder, x: TensorID) -> TensorID:
    """What stands at the largest place of every row, with the row named by its number, as exporters do."""
    flat = b.add1("reduce_sum", [x], {"axes": (2,), "keepdims": False})
    place = b.add1("arg_max", [flat], {"axis": 1, "keepdims": True})
    numbers = b.add1("range", [], {"size": N, "start": 0, "step": 1, "dtype": I64})
    joined = b.add1("concat", [b.add1("reshape", [numbers], {"shape": (N, 1)}), place], {"axis": 1})
    return b.add1("gather_nd", [x, joined], {"batch_dims": 0})


def learnt(b: GraphBuilder, x: TensorID) -> tuple[TensorID, ...]:
    """A step of an optimiser, whose parameters are the rows."""
    rate, count = b.constant(np.float32([0.1])), b.constant(np.array([3], np.int64))
    gradient = b.add1("tanh", [x])
    return b.add("adam", [rate, count, x, gradient, gradient, b.add1("mul", [x, x])])


ALIGN = {
    "height": 2, "width": 3, "mode": "avg", "sampling_ratio": 2, "spatial_scale": 1.0, "half_pixel": True,
}  # fmt: skip


INDEPENDENT: dict[str, ExecutionGraph] = {
    "attention": graph_of(attention, "T", 8),
    "time first": graph_of(time_first, "T", 8),
    "convolution": graph_of(convolution, 3, 6, 7),
    "recurrent": graph_of(recurrent, 4, 8),
    "lookup": graph_of(lookup, 4, dtype=I64),
    "class token": graph_of(filled, "T", 8),
    "best": graph_of(best, 7),
    "sum of rows' own": graph_of(lambda b, x: b.add1("cum_sum", [x], {"axis": 1}), 7),
    "einsum": graph_of(lambda b, x: b.add1("einsum", [x, weight(b, 7, 5)], {"equation": "nk,km->nm"}), 7),
    "slice": graph_of(
        lambda b, x: b.add1("slice", [x], {"starts": (0, 1), "sizes": (N, 3), "steps": (1, 2)}), 7
    ),
    "columns of a product": graph_of(
        lambda b, x: b.add1(
            "transpose", [b.add1("matmul", [weight(b, 5, 7), b.add1("transpose", [x], {"perm": (1, 0)})])],
            {"perm": (1, 0)},
        ), 7,
    ),
    "written columns": graph_of(written_columns, 5, 3),
    "regions": graph_of(regions, 4),
    "largest in regions": graph_of(largest_in_regions, 4),
    "own places": graph_of(own_places, 5, 3),
    "optimiser": graph_of(learnt, 37),
    "rows beside a constant": graph_of(lambda b, x: b.add1("mul", [x, weight(b, 1, 7)]), 7),
}  # fmt: skip


def turned_in(b: GraphBuilder, x: TensorID) -> TensorID:
    """Mixes: the batch is merged behind columns and cut elsewhere."""
    merged = b.add1("reshape", [b.add1("transpose", [x], {"perm": (1, 0)})], {"shape": (mul(N, 8),)})
    return b.add1("reshape", [merged], {"shape": (N, 8)})


def batch_statistics(b: GraphBuilder, x: TensorID) -> TensorID:
    """Batch normalisation as in training."""
    mean = b.add1("reduce_mean", [x], {"axes": (0,), "keepdims": True})
    return b.add1("sub", [x, mean])


def numbered(b: GraphBuilder, x: TensorID) -> TensorID:
    """Adds its own number to every row."""
    numbers = b.add1("range", [], {"size": N, "start": 0, "step": 1, "dtype": F32})
    return b.add1("add", [x, b.add1("reshape", [numbers], {"shape": (N, 1)})])


def counted(b: GraphBuilder, x: TensorID) -> TensorID:
    """Divides by the number of rows."""
    number = b.add1("cast", [b.symbolic(N)], {"to": F32})
    return b.add1("div", [x, number])


def matched(b: GraphBuilder, x: TensorID) -> TensorID:
    """Every row against every other row."""
    return b.add1("matmul", [x, b.add1("transpose", [x], {"perm": (1, 0)})])


def pool_places(b: GraphBuilder, x: TensorID) -> tuple[TensorID, ...]:
    """Places of maxima count through the batch."""
    return b.add("max_pool", [x], {
        "kernel": (2, 2), "strides": (2, 2), "dilations": (1, 1), "pads": (0, 0, 0, 0), "ceil": False,
        "indices": True, "column_major": False,
    })  # fmt: skip


def numbered_columns(b: GraphBuilder, x: TensorID) -> TensorID:
    """Adds one to another column of every row."""
    return b.add1("add", [x, b.add1("eye", [], {"shape": (N, 7), "k": 0, "dtype": F32})])


def rows_written(b: GraphBuilder, x: TensorID) -> TensorID:
    """Writes into the first row."""
    added = b.constant(np.ones((1, 7), np.float32))
    return b.add1("scatter_nd", [x, b.constant(np.array([[0]], np.int64)), added], {"reduction": "add"})


def histogram(b: GraphBuilder, x: TensorID) -> TensorID:
    """Rows counted into one table, and every row reads its own count."""
    table, ones = b.constant(np.zeros(11, np.float32)), b.add1("expand", [weight(b, 1)], {"shape": (N,)})
    places = b.add1("reshape", [x], {"shape": (N, 1)})
    counted = b.add1("scatter_nd", [table, places, ones], {"reduction": "add"})
    return b.add1("gather", [counted, x], {"axis": 0})


def images_by_number(b: GraphBuilder, x: TensorID) -> TensorID:
    """Every row looks at a box of the image whose number its largest element says."""
    flat = b.add1("reshape", [x], {"shape": (N, 36)})
    image = b.add1("cast", [b.add1("greater", [flat, b.constant(np.float32(0))])], {"to": I64})
    image = b.add1("arg_max", [image], {"axis": 1, "keepdims": False})
    box = b.add1("slice", [flat], {"starts": (0, 0), "sizes": (N, 4), "steps": (1, 1)})
    return b.add1("roi_align", [x, boxes(box, b), image], ALIGN)


def largest_by_number(b: GraphBuilder, x: TensorID) -> TensorID:
    """Every row pools a box of the second image."""
    flat = b.add1("reshape", [x], {"shape": (N, 36)})
    box = b.add1("slice", [flat], {"starts": (0, 0), "sizes": (N, 4), "steps": (1, 1)})
    image = b.add1("expand", [b.constant(np.float32([[1]]))], {"shape": (N, 1)})
    joined = b.add1("concat", [image, boxes(box, b)], {"axis": 1})
    return b.add1("max_roi_pool", [x, joined], {"pooled": (2, 3), "spatial_scale": 1.0})


def next_row(b: GraphBuilder, x: TensorID) -> TensorID:
    """The first place of the row before, the last one in front of the first."""
    numbers = b.add1("range", [], {"size": N, "start": -1, "step": 1, "dtype": I64})
    place = b.add1("arg_max", [b.add1("mul", [x, b.constant(np.zeros((1, 7), np.float32))])], {"axis": 1})
    joined = b.add1("concat", [b.add1("reshape", [numbers], {"shape": (N, 1)}), place], {"axis": 1})
    return b.add1("gather_nd", [x, joined], {"batch_dims": 0})


def unpooled(b: GraphBuilder, x: TensorID) -> TensorID:
    """Values put where a number within the whole batch says."""
    places = b.add1("cast", [b.add1("relu", [x])], {"to": I64})
    return b.add1("max_unpool", [x, places], {"inner": (4, 4), "outer": (4, 4)})


MIXED: dict[str, tuple[ExecutionGraph, str]] = {
    "softmax": (graph_of(lambda b, x: b.add1("softmax", [x], {"axis": 0}), 7), "softmax"),
    "reduce": (graph_of(batch_statistics, 7), "reduce_mean"),
    "product": (graph_of(matched, 7), "matmul"),
    "weights of the batch": (graph_of(
        lambda b, x: b.add1("matmul", [b.add1("transpose", [x], {"perm": (1, 0)}), x]), 7), "matmul"),
    "reshape": (graph_of(turned_in, 8), "reshape"),
    "gather": (graph_of(
        lambda b, x: b.add1("gather", [x, b.constant(np.array([0, 0]))], {"axis": 0}), 7), "gather"),
    "numbers": (graph_of(numbered, 7), "range"),
    "count": (graph_of(counted, 7), "symbolic_value"),
    "cumulative": (graph_of(lambda b, x: b.add1("cum_sum", [x], {"axis": 0}), 7), "cum_sum"),
    "pool places": (graph_of(pool_places, 3, 4, 4), "max_pool"),
    "join": (graph_of(lambda b, x: b.add1("concat", [x, x], {"axis": 0}), 7), "concat"),
    "rows written": (graph_of(rows_written, 7), "scatter_nd"),
    "histogram": (graph_of(histogram, dtype=I64), "scatter_nd"),
    "numbered columns": (graph_of(numbered_columns, 7), "eye"),
    "images by number": (graph_of(images_by_number, 1, 6, 6), "roi_align"),
    "largest by number": (graph_of(largest_by_number, 1, 6, 6), "max_roi_pool"),
    "next row": (graph_of(next_row, 7), "range"),
    "unpooled": (graph_of(unpooled, 2, 4, 4), "max_unpool"),
    "backwards": (graph_of(
        lambda b, x: b.add1("slice", [x], {"starts": (N - 1, 0), "sizes": (N, 7), "steps": (-1, 1)}), 7
    ), "slice"),
}  # fmt: skip
"""Graph, and the operation that must be named."""
