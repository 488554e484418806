"""The page is read back with the standard library's parser, as a browser would find it."""

from __future__ import annotations

import base64
import html.parser
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tfspec.errors import OutputError
from tfspec.report import figures
from tfspec.report.html import ReportPage

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Document(html.parser.HTMLParser):
    """Elements with their attributes and text; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
            self.words.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.words[self._open[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def png() -> bytes:
    return figures.score_bars({"mixture": {"SDR": -5.0}, "model": {"SDR": 3.0}})


@pytest.fixture(scope="module")
def wav() -> bytes:
    return encode("WAV")


def encode(file_format: str) -> bytes:
    """A second of a sine."""
    buffer = io.BytesIO()
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    soundfile.write(buffer, tone, 8000, format=file_format)
    return buffer.getvalue()


def test_page_holds_everything_in_reading_order(png: bytes, wav: bytes) -> None:
    page = (
        ReportPage("Separation", "First.\n\nSecond.", footer="seed 0")
        .add_heading("Sound")
        .add_audio("mixture", wav)
        .add_audio("vocals", wav, note="int8")
        .add_heading("Scores")
        .add_table("Scores", ["row", "SDR (dB)"], [["mixture", -5.0], ["model", 3.0]])
        .add_figure(png, "Scores by row.", alt="The model gains 8 dB.")
        .add_text("Done.")
    )
    document = Document(page.render())
    assert document.words["h1"] == ["Separation"]
    assert document.words["title"] == ["Separation"]
    assert document.words["h2"] == ["Sound", "Scores"]
    assert document.words["p"] == ["First.", "Second.", "Done."]
    assert document.words["footer"] == ["seed 0"]
    order = [tag for tag, _ in document.elements if tag in {"h1", "h2", "audio", "table", "img"}]
    assert order == ["h1", "h2", "audio", "audio", "h2", "table", "img"]
    assert len(document.all("ul")) == 1  # neighbouring players share a list


def test_images_and_sounds_come_back_bit_for_bit(png: bytes, wav: bytes) -> None:
    page = ReportPage("t").add_figure(png, "c").add_audio("a", wav)
    document = Document(page.render())
    for tag, media_type, contents in (("img", "image/png", png), ("audio", "audio/wav", wav)):
        source = document.all(tag)[0]["src"] or ""
        head, _, data = source.partition(";base64,")
        assert head == f"data:{media_type}"
        assert base64.b64decode(data, validate=True) == contents


@pytest.mark.parametrize(
    ("file_format", "media_type"),
    [("WAV", "wav"), ("FLAC", "flac"), ("OGG", "ogg"), ("MP3", "mpeg")],
)
def test_audio_formats_are_recognised(file_format: str, media_type: str) -> None:
    page = ReportPage("t").add_audio("a", encode(file_format))
    assert f'src="data:audio/{media_type};base64,' in page.render()


def test_page_refers_to_nothing_outside_itself(png: bytes, wav: bytes) -> None:
    text = ReportPage("t").add_figure(png, "c").add_audio("a", wav).render()
    document = Document(text)
    for _, attributes in document.elements:
        for name in ("src", "href", "srcset", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"url\(|@import|https?://", text)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in document.elements}
    policy = [a for a in document.all("meta") if a.get("http-equiv")]
    assert (policy[0]["content"] or "").startswith("default-src 'none';")


def test_page_is_accessible(png: bytes, wav: bytes) -> None:
    page = ReportPage("t").add_figure(png, "caption <1>").add_audio("a", wav)
    document = Document(page.add_table("T", ["row", "x"], [["a", 1]]).render())
    assert document.all("html")[0]["lang"] == "en"
    image = document.all("img")[0]
    assert image["alt"] == "caption <1>"
    assert int(image["width"] or 0) > 0 and int(image["height"] or 0) > 0
    assert document.all("audio")[0]["aria-label"] == "a"
    assert {a["scope"] for a in document.all("th")} == {"col", "row"}
    # What scrolls can be reached and is announced by keyboard too.
    for region in (a for a in document.all("div") if "scroll" in (a.get("class") or "")):
        assert region["tabindex"] == "0" and region["aria-label"]
    viewport = [a["content"] for a in document.all("meta") if a.get("name") == "viewport"]
    assert viewport == ["width=device-width, initial-scale=1"]


def test_text_can_be_read_in_light_and_dark() -> None:
    """WCAG AA asks for a contrast of 4.5 between text and what is behind it."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    text = ReportPage("t").render()
    themes = [
        dict(re.findall(r"--(\w+): (#\w{6})", line)) for line in re.findall(":root {.*", text)
    ]
    assert len(themes) == 2
    for theme in themes:
        for ink in ("ink", "quiet", "accent"):
            for paper in ("paper", "band"):
                pair = sorted(luminance(theme[name]) for name in (ink, paper))
                assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (ink, paper, theme)


hostile = st.text(alphabet=st.sampled_from("<>&\"'/={}%# abscript\u202e\u00e9"), max_size=40)


@settings(max_examples=60, deadline=None)
@given(text=hostile)
def test_text_is_never_markup(text: str) -> None:
    page = ReportPage(f"t{text}", text, footer=text).add_heading(text).add_text(text)
    page.add_table(text, [text, text], [[text, text]], note=text)
    page.add_audio(text, b"RIFF\0\0\0\0WAVE", note=text)
    page.add_figure(b"\x89PNG\r\n\x1a\n" + bytes(16), text, alt=text)
    document = Document(page.render())
    known = {
        "html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "p",
        "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "img",
        "figcaption", "ul", "li", "span", "audio", "footer",
    }  # fmt: skip
    assert {tag for tag, _ in document.elements} <= known
    assert document.words["h1"] == [f"t{text}"]
    assert document.words["td"] == [text]
    assert document.all("audio")[0]["aria-label"] == text


def test_script_in_a_title_is_escaped() -> None:
    text = ReportPage("<script>alert(1)</script>").add_heading('"><img src=x>').render()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>" not in text and "<img" not in text


def test_table_formats_numbers_and_gaps() -> None:
    rows: list[list[str | int | float | bool | None]] = [
        ["mixture", -5.318, 1234567, None, True],
        ["model", math.nan, 0, math.inf, False],
    ]
    page = ReportPage("t").add_table(
        "T", ["row", "a", "b", "c", "d"], rows, decimals=1, muted=["mixture"], note="n"
    )
    document = Document(page.render())
    assert document.words["td"] == [
        "\N{MINUS SIGN}5.3", "1,234,567", "\N{EN DASH}", "yes",
        "\N{EN DASH}", "0", "\N{INFINITY}", "no",
    ]  # fmt: skip
    assert [a.get("class") for a in document.all("td")][:4] == ["number"] * 3 + [None]
    assert [a.get("class") for a in document.all("tr")] == [None, "muted", None]


@pytest.mark.parametrize(
    ("columns", "rows", "muted"),
    [([], [], ()), (["a", "b"], [["x"]], ()), (["a"], [["x"]], ("y",)), (["a"], [[]], ())],
)
def test_table_refuses_uneven_rows_and_unknown_names(
    columns: list[str], rows: list[list[str]], muted: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="one cell per column"):
        ReportPage("t").add_table("T", columns, rows, muted=muted)


@pytest.mark.parametrize("contents", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_figure_must_be_a_png(contents: bytes) -> None:
    with pytest.raises(ValueError, match="must be a PNG file"):
        ReportPage("t").add_figure(contents, "c")


@pytest.mark.parametrize("contents", [b"", b"RIFF....AVI ", b"plain text"])
def test_audio_must_be_a_known_format(contents: bytes) -> None:
    with pytest.raises(ValueError, match="WAV, FLAC, OGG or MP3"):
        ReportPage("t").add_audio("a", contents)


def test_write_is_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "report.html"
    assert ReportPage("first").write(path) == path
    assert Document(path.read_text(encoding="utf-8")).words["h1"] == ["first"]

    def fail(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        ReportPage("second").write(path)
    assert ">first<" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]
