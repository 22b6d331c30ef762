"""The rows of a Parquet file, as the objects that a line of JSONL would be.

A Parquet file has every column in every row, so a null says that the field is absent. Columns that
have no JSON are not read: bytes, such as images, and times. A column of bytes alone is read where
they are UTF-8, because some writers mark no text as such.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accord.errors import InputError
from accord.files.said import unreadable

ROWS = 512  # held as Python objects at once
INSTALL = 'reading Parquet needs `pip install "accord[data]"`'


def table(path: Path, name: str) -> Iterator[dict[str, Any]]:
    """The rows of the file at `path`, which errors call `name`, in order.

    Raises InputError for a file that is none or is damaged, and where pyarrow is missing.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError(f"{name}: {INSTALL}") from None
    count = 0
    try:
        path.open("rb").close()  # its own errors are plainer than pyarrow's
        # Not from a file of Python's: pyarrow's threads would end it while the interpreter ends.
        with pyarrow.OSFile(str(path)) as stream, parquet.ParquetFile(stream) as file:
            columns = [field.name for field in file.schema_arrow if _is_read(field.type)]
            for batch in file.iter_batches(ROWS, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    count += 1
                    plain = ((key, _plain(value)) for key, value in row.items())
                    yield {key: value for key, value in plain if value is not None}
    except UnicodeDecodeError:
        raise InputError(
            f"{name}: after row {count}: a text that is not UTF-8; write the file anew"
        ) from None
    except pyarrow.ArrowException as error:
        raise _damaged(name, error) from None
    except OSError as error:
        if error.errno is None:  # pyarrow's own, of a damaged file
            raise _damaged(name, error) from None
        raise unreadable(name, error, "a Parquet file") from None


def _damaged(name: str, error: Exception) -> InputError:
    why = " ".join(str(error).split())
    return InputError(
        f"{name}: is no Parquet file, or a damaged one ({why[:120]}); write it anew, or name a "
        ".jsonl file"
    )


def _is_read(kind: Any) -> bool:
    """Whether a column of this type is read."""
    from pyarrow import types

    inner = [kind.field(n).type for n in range(kind.num_fields)]
    return not types.is_temporal(kind) and not any(
        _is_bytes(one) or not _is_read(one) for one in inner
    )


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )


def _plain(value: Any) -> Any:
    """A value as JSON has it; None where there is none."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None
    return value if value is None or isinstance(value, str | int | float) else str(value)
