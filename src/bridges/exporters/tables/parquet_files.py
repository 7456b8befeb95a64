"""Parquet files: tables to bytes and back, with pyarrow.

No Arrow schema is stored: texts are plain strings in every reader, not categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bridges import MissingDependencyError
from bridges.exporters.atomic_files import write_file
from bridges.exporters.tables.table import TEXT, Column, Numbers, Table, Texts

SUFFIX = ".parquet"
GROUP_ROWS = 1 << 17


def write(path: str, table: Table) -> None:
    """Write and sync a file. Raises OSError."""
    arrow, parquet = _libraries()
    file = arrow.BufferOutputStream()
    made = arrow.table({name: _array(column) for name, column in table.items()})
    rising = [name for name, column in table.items() if _is_rising(column)]
    parquet.write_table(
        made,
        file,
        compression="zstd",
        row_group_size=GROUP_ROWS,
        use_dictionary=[name for name, column in table.items() if isinstance(column, Texts)],
        column_encoding=dict.fromkeys(rising, "DELTA_BINARY_PACKED"),
        store_schema=False,
    )
    write_file(path, [file.getvalue()])


def read(path: str, types: Mapping[str, str]) -> Table:
    """Read a file with columns of these types. Raises OSError, ValueError for other files."""
    _, parquet = _libraries()
    names = [name for name, kind in types.items() if kind == TEXT]
    found = parquet.read_table(path, read_dictionary=names, partitioning=None).unify_dictionaries()
    return {name: _column(found.column(name).combine_chunks()) for name in types}


def _libraries() -> tuple[Any, Any]:
    """The modules of pyarrow, which are slow to import. Raises MissingDependencyError."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingDependencyError("pyarrow", "parquet") from None
    return pyarrow, parquet


def _is_rising(column: Column) -> bool:
    """Whether differences take less space than the values."""
    return isinstance(column, Numbers) and column.values.dtype.kind in "iM"


def _array(column: Column) -> Any:
    arrow, _ = _libraries()
    if isinstance(column, Texts):
        codes = arrow.array(column.codes.astype(np.int32))
        return arrow.DictionaryArray.from_arrays(codes, arrow.array(column.names, arrow.string()))
    if column.values.dtype.kind == "M":
        times = arrow.array(column.values.view(np.int64), mask=column.missing)
        return times.cast(arrow.timestamp("us", "UTC"))
    return arrow.array(column.values, mask=column.missing)


def _column(array: Any) -> Column:
    """The column of an Arrow array without chunks."""
    arrow, _ = _libraries()
    if arrow.types.is_dictionary(array.type):
        return Texts(np.asarray(array.indices, np.int64), array.dictionary.to_pylist())
    missing = np.asarray(array.is_null()) if array.null_count else None
    is_time = arrow.types.is_timestamp(array.type)
    if is_time:
        array = array.cast(arrow.int64())
    if array.null_count:
        array = array.fill_null(False if arrow.types.is_boolean(array.type) else 0)
    values = np.asarray(array)
    return Numbers(values.view("datetime64[us]") if is_time else values, missing)
