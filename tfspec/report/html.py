"""Reports as one HTML file that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import base64
import dataclasses
import math
import os
import struct
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar, TypeAlias

import jinja2

from tfspec.signal.files import atomic_path

Cell: TypeAlias = str | int | float | bool | None

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Figures are drawn at this many pixels per CSS pixel, so that they are sharp on dense screens.
_PIXEL_RATIO = 1.5
# From this width on (CSS pixels) a figure scrolls on a phone rather than shrink.
_WIDE = 560


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Heading:
    kind: ClassVar[str] = "heading"
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Text:
    kind: ClassVar[str] = "text"
    paragraphs: Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Row:
    cells: Sequence[str]
    muted: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Table:
    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    numeric: Sequence[bool]
    rows: Sequence[_Row]
    note: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Figure:
    kind: ClassVar[str] = "figure"
    source: str
    caption: str
    alt: str
    width: int
    height: int

    @property
    def wide(self) -> bool:
        """Whether the figure's text would be too small on a phone."""
        return self.width >= _WIDE


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Player:
    label: str
    note: str
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Audio:
    kind: ClassVar[str] = "audio"
    players: list[_Player]


_Block: TypeAlias = _Heading | _Text | _Table | _Figure | _Audio


class ReportPage:
    """Collects tables, figures and sounds in reading order and writes them as one page.

    Every `add_` method returns the page, so that calls can be chained. All text is escaped; a
    blank line in `summary` and in `add_text` starts a new paragraph.

    Example:
        >>> page = ReportPage("Vocal separation", "A tiny model on one song.")
        >>> page = page.add_table("Scores", ["row", "SDR (dB)"], [["mixture", -5.3]])
        >>> "mixture" in page.render()
        True
    """

    def __init__(self, title: str, summary: str = "", *, footer: str = "") -> None:
        self._title = title
        self._summary = summary
        self._footer = footer
        self._blocks: list[_Block] = []

    def add_heading(self, text: str) -> ReportPage:
        """Starts a section."""
        self._blocks.append(_Heading(text=text))
        return self

    def add_text(self, text: str) -> ReportPage:
        """Adds paragraphs."""
        self._blocks.append(_Text(paragraphs=_paragraphs(text)))
        return self

    def add_table(
        self,
        caption: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        *,
        decimals: int = 2,
        muted: Collection[str] = (),
        note: str = "",
    ) -> ReportPage:
        """Adds a table whose first column names the rows.

        Args:
            caption: what the table shows; also what screen readers announce.
            columns: column titles, units included.
            rows: one cell per column; None and NaN are shown as a dash. A column whose other
                cells are all numbers is aligned to the right.
            decimals: digits after the point of float cells.
            muted: first cells of the rows that are set back, such as baselines.
            note: small text below the table.

        Raises:
            ValueError: there is no column, a row has another number of cells, or a muted row is
                not in the table.
        """
        uneven = [list(row) for row in rows if len(row) != len(columns)]
        unknown = sorted(set(muted) - {str(row[0]) for row in rows if row})
        if not columns or uneven or unknown:
            raise ValueError(
                "`rows` must have one cell per column, and `muted` must name rows. "
                f"Received: columns={list(columns)}, uneven rows={uneven}, unknown rows={unknown}"
            )
        numeric = [index > 0 and _is_numeric(rows, index) for index in range(len(columns))]
        cells = [
            _Row(cells=[_format(cell, decimals) for cell in row], muted=str(row[0]) in muted)
            for row in rows
        ]
        self._blocks.append(
            _Table(caption=caption, columns=columns, numeric=numeric, rows=cells, note=note)
        )
        return self

    def add_figure(self, png: bytes, caption: str, *, alt: str = "") -> ReportPage:
        """Adds an image.

        Args:
            png: a PNG file, such as `tfspec.report.figures` returns.
            caption: text below the image.
            alt: what a reader who does not see the image should know; default the caption.

        Raises:
            ValueError: `png` is not a PNG file.
        """
        width, height = _png_size(png)
        figure = _Figure(
            source=_data_url("image/png", png),
            caption=caption,
            alt=alt or caption,
            width=round(width / _PIXEL_RATIO),
            height=round(height / _PIXEL_RATIO),
        )
        self._blocks.append(figure)
        return self

    def add_audio(self, label: str, contents: bytes, *, note: str = "") -> ReportPage:
        """Adds a player; players added one after the other stand side by side.

        Args:
            label: what is heard.
            contents: a WAV, FLAC, OGG or MP3 file. It is kept whole inside the page and takes a
                third more room there, so give short excerpts or compressed ones.
            note: small text below the label.

        Raises:
            ValueError: `contents` is in none of these formats.
        """
        player = _Player(label=label, note=note, source=_data_url(_audio_type(contents), contents))
        last = self._blocks[-1] if self._blocks else None
        if isinstance(last, _Audio):
            last.players.append(player)
        else:
            self._blocks.append(_Audio(players=[player]))
        return self

    def render(self) -> str:
        """The page as HTML text."""
        return (
            _environment()
            .get_template("page.html.j2")
            .render(
                title=self._title,
                summary=_paragraphs(self._summary),
                blocks=self._blocks,
                footer=self._footer,
            )
        )

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Writes the page; `path` holds the old file or the whole new one, never a part.

        Returns:
            `path`.

        Raises:
            OutputError: the file cannot be written.
        """
        with atomic_path(path) as temporary:
            temporary.write_text(self.render(), encoding="utf-8")
        return Path(path)


def _environment() -> jinja2.Environment:
    """Templates of this package; everything they insert is escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("tfspec.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _paragraphs(text: str) -> list[str]:
    """The parts of a text between blank lines."""
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _is_number(cell: Cell) -> bool:
    """Whether a cell is an int or float; True and False are words."""
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)


def _is_numeric(rows: Sequence[Sequence[Cell]], index: int) -> bool:
    """Whether a column holds numbers and gaps only, and at least one number."""
    cells = [row[index] for row in rows if row[index] is not None]
    return bool(cells) and all(_is_number(cell) for cell in cells)


def _format(cell: Cell, decimals: int) -> str:
    """A cell as text, with the minus sign and the grouping of print."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "\N{EN DASH}"
    if isinstance(cell, str):
        return cell
    text = f"{cell:,.{decimals}f}" if isinstance(cell, float) else f"{cell:,}"
    return text.replace("-", "\N{MINUS SIGN}").replace("inf", "\N{INFINITY}")


def _png_size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the image header that every PNG begins with."""
    if png[:8] != _PNG_SIGNATURE or len(png) < 24:
        raise ValueError(f"`png` must be a PNG file. Received: bytes that begin with {png[:8]!r}")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def _audio_type(contents: bytes) -> str:
    """Media type of an audio file, by its first bytes."""
    if contents[:4] == b"RIFF" and contents[8:12] == b"WAVE":
        return "audio/wav"
    if contents[:4] == b"fLaC":
        return "audio/flac"
    if contents[:4] == b"OggS":
        return "audio/ogg"
    # An MP3 begins with a tag or with the eleven set bits of a frame.
    if contents[:3] == b"ID3" or (contents[:1] == b"\xff" and contents[1:2] >= b"\xe0"):
        return "audio/mpeg"
    raise ValueError(
        "`contents` must be a WAV, FLAC, OGG or MP3 file. "
        f"Received: {len(contents)} bytes that begin with {contents[:12]!r}"
    )


def _data_url(media_type: str, contents: bytes) -> str:
    """The bytes as a URL that holds them."""
    return f"data:{media_type};base64,{base64.b64encode(contents).decode('ascii')}"
