"""Tables of text as CSV, TSV or Markdown that people edit, and back, cell by cell.

A cell that a spreadsheet program would run as a formula gets an apostrophe before it, which is
taken off again on reading (OWASP, "CSV Injection").
"""

import csv
import html
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from accord.errors import InputError

_BOM = "\ufeff"
# What begins a formula, in full width too; and the mark itself, or it could not be taken off.
_FORMULA = tuple("=+-@\t\r\n'\uff1d\uff0b\uff0d\uff20")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_SUFFIXES = (*_DELIMITERS, ".md")
_LONGEST = 10_000_000  # characters of a cell; the csv module's own limit is 131,072
_RULE = re.compile(r":?-+:?")


class Row(dict[str, str]):
    """A row by its columns, and the line of the file where it begins."""

    def __init__(self, line: int, cells: dict[str, str]) -> None:
        super().__init__(cells)
        self.line = line


def render(table: Sequence[Sequence[str]], path: Path) -> str:
    """The text of a file with this table, its first row the header."""
    _check_suffix(path)
    clean = [[showable(cell) for cell in row] for row in table]
    if path.suffix.lower() == ".md":
        lines = [[_markdown(cell) for cell in row] for row in clean]
        lines.insert(1, ["---"] * len(table[0]))
        return "".join(f"| {' | '.join(row)} |\n" for row in lines)
    out = io.StringIO(newline="")
    delimiter = _DELIMITERS[path.suffix.lower()]
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([[_harmless(cell) for cell in row] for row in clean])
    return _BOM + out.getvalue()


def read_rows(path: Path, wanted: Sequence[str]) -> Iterator[Row]:
    """The rows of such a file; blank ones are left out.

    Raises InputError for a file that cannot be read, is not UTF-8 or no table, for a column of
    `wanted` that is missing, and for a row with more cells than the header.
    """
    _check_suffix(path)
    lines = _markdown_rows(path) if path.suffix.lower() == ".md" else _csv_rows(path, wanted)
    header: list[str] | None = None
    for number, cells in lines:
        if header is None:
            header = [cell.strip() for cell in cells]
            _check_header(path, header, wanted)
        elif len(cells) > len(header) and any(cell for cell in cells[len(header) :]):
            raise InputError(
                f"{path} line {number}: {len(cells)} cells; the header has {len(header)}"
            )
        elif any(cell.strip() for cell in cells):
            full = [*cells, *[""] * (len(header) - len(cells))]
            yield Row(number, dict(zip(header, full, strict=False)))
    if header is None:
        raise InputError(f"{path}: is empty; a table with a header is wanted")


def showable(text: str) -> str:
    """Text that a table can hold: control characters and halves of surrogate pairs replaced."""
    if text.isprintable():
        return text
    return "".join("\ufffd" if _hidden(c) else c for c in text)


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs"} and character not in "\t\n\r"


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{path}: a name that ends in .csv, .tsv or .md is wanted")


def _check_header(path: Path, header: Sequence[str], wanted: Sequence[str]) -> None:
    for column in wanted:
        if column not in header:
            raise InputError(f"{path} line 1: no column `{column}`; restore the header")
    for column in header:
        if column and header.count(column) > 1:
            raise InputError(f"{path} line 1: column `{column}` occurs twice")


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8").removeprefix(_BOM)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or '').lower()}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; save it as `CSV UTF-8`") from None


def _csv_rows(path: Path, wanted: Sequence[str]) -> Iterable[tuple[int, list[str]]]:
    text = _read(path)
    first = text.split("\n", 1)[0]
    # Some programs save with the separator of the country.
    found = [d for d in (",", ";", "\t") if all(w in _split(first, d) for w in wanted)]
    limit = csv.field_size_limit(_LONGEST)
    rows, line = [], 1
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=found[0] if found else ",", strict=True
        )
        for cells in reader:
            rows.append((line, [_meant(cell) for cell in cells]))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path} line {line}: not a row of a table: {error}") from None
    finally:
        csv.field_size_limit(limit)
    return rows


def _split(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"') for cell in line.split(delimiter)]


def _harmless(cell: str) -> str:
    return "'" + cell if cell.startswith(_FORMULA) else cell


def _meant(cell: str) -> str:
    # Only what `_harmless` makes: a person's own 'quoted' word stays as it is.
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def _markdown(cell: str) -> str:
    """A cell in one line; what would be markup or be trimmed away is written as an entity."""
    text = html.escape(cell, quote=False).replace("\r", "&#13;").replace("\n", "<br>")
    text = re.sub(r"[\\`*_|\[\]~$\t]", lambda m: f"&#{ord(m[0])};", text)
    return re.sub(r"^\s|\s$", lambda m: f"&#{ord(m[0])};", text)


def _markdown_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(_read(path).split("\n"), start=1):
        text = line.strip()
        if not text.startswith("|"):
            continue
        inner = text[1:-1] if text.endswith("|") else text[1:]
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", inner)]
        if all(_RULE.fullmatch(cell) for cell in cells):
            continue
        yield number, [_unescaped(cell) for cell in cells]


def _unescaped(cell: str) -> str:
    text = cell.replace("\\|", "|").replace("<br>", "\n")
    return html.unescape(text)
