"""How rows pass through operations that read and write by index."""

from __future__ import annotations

from plumbline.kernels.row_rules.moving import first_rows
from plumbline.kernels.rows import RowAnswer, RowCall, rows_first, same_place

__all__ = [
    "gathered",
    "gathered_elements",
    "gathered_slices",
    "one_hot_rows",
    "region_rows",
    "reversed_rows",
    "scattered_elements",
    "scattered_slices",
]

_BY_NUMBER = "it takes rows by their number"


def gathered(call: RowCall) -> RowAnswer:
    """A table that is the same for all with indices by row, or another axis of data by row."""
    data, indices = call.carried[:2]
    axis = call.attribute_axis("axis", 0, call.rank(0))
    if data is None and indices is not None:
        return (indices.at(axis + indices.axis),)
    if data is None or indices is not None:
        return "data and indices both differ from row to row, and every index reads all of the data"
    if data.axis == axis:
        return _BY_NUMBER
    return (data.at(data.axis if data.axis < axis else data.axis + call.rank(1) - 1),)


def gathered_elements(call: RowCall) -> RowAnswer:
    """Data and indices by row, or indices by row along the axis that they choose from."""
    data, indices = call.carried[:2]
    axis = call.attribute_axis("axis", 0, call.rank(0))
    if indices is None:
        return _BY_NUMBER
    if data is None:
        return (indices,) if indices.axis == axis else "every row reads another part of the same data"
    return same_place(call, call.carriers) if data.axis != axis else _BY_NUMBER


def gathered_slices(call: RowCall) -> RowAnswer:
    """Indices by row into data that is the same for all, or both by row on an axis that they share."""
    data, indices = call.carried[:2]
    shared = int(call.attributes["batch_dims"])
    if indices is None or indices.axis == call.rank(1) - 1:
        return _BY_NUMBER
    if data is None:
        return (indices,) if indices.axis >= shared else "every row reads another part of the same data"
    if data.axis >= shared or indices.axis >= shared:
        return _BY_NUMBER
    return same_place(call, call.carriers)


def scattered_elements(call: RowCall) -> RowAnswer:
    """Data, indices and updates by row, written along another axis."""
    axis = call.attribute_axis("axis", 0, call.rank(0))
    if len(call.carriers) != 3:
        return "data, indices and updates do not all have rows"
    if any(rows.axis == axis for rows in call.carriers.values()):
        return "it writes rows by their number"
    return same_place(call, call.carriers)


def scattered_slices(call: RowCall) -> RowAnswer:
    """`scatter_nd` inside rows: data and updates by row on an axis of the slice, indices the same for all.

    Updates are `[*indices.shape[:-1], *data.shape[k:]]`. Axis a of the data with a >= k is no place that an
    index can name, so element i of it is written from element i of the updates alone, in the order of the
    indices, which is the same for every row.
    """
    data, indices, updates = call.carried[:3]
    if indices is not None:
        return "the places differ from row to row, and every row writes into the same data"
    if data is None or updates is None:
        return "data and updates do not both have rows"
    places = call.inputs[1].shape if call.inputs[1] is not None else ()
    depth = places[-1] if places else 0
    if not isinstance(depth, int) or data.axis < depth:
        return "it writes rows by their number"
    written = updates.axis - (len(places) - 1) + depth
    return same_place(call, {0: data, 2: updates.at(written)})


def region_rows(call: RowCall) -> RowAnswer:
    """`roi_align` and `max_roi_pool`: every region for itself, in images that are the same for all rows."""
    if call.carried[0] is not None:
        return "a region takes its image by the number of the row"
    return rows_first(1, 2)(call)


def one_hot_rows(call: RowCall) -> RowAnswer:
    """A line of values for each index."""
    rows = first_rows(call)
    if isinstance(rows, str):
        return rows
    axis = call.attribute_axis("axis", -1, call.rank(0) + 1)
    return (rows.at(rows.axis + (axis <= rows.axis)),)


def reversed_rows(call: RowCall) -> RowAnswer:
    """`reverse_sequence`: time turns within each row; lengths belong to rows."""
    data, lengths = call.carried[:2]
    batch = int(call.attributes["batch_axis"])
    if data is None or data.axis != batch:
        return f"rows do not lie on its batch axis {batch}"
    if lengths is not None:
        return same_place(call, {0: data, 1: lengths.at(batch)})
    return (data,)
