"""A signed certificate as a PDF, with the signed file attached."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib
from fpdf import FPDF, FontFace
from fpdf.enums import VAlign, XPos, YPos

from mllmeraser.serving.verify.sheet import CHECKABLE, COLUMNS, Section, sheet_of

ATTACHED = "certificate.json"
FAMILY, EXACT = "DejaVuSans", "DejaVuSansMono"
INK, SOFT, LINE, GOOD, BAD = (34, 38, 43), (93, 100, 109), (200, 196, 186), (23, 98, 79), (163, 48, 31)
MARGIN, INDENT = 18, 4.5
"""Millimetres."""
TEXT, SMALL = 9.5, 8.5
"""Points."""


def certificate_pdf(document: Mapping[str, Any]) -> bytes:
    """Render a signed certificate on A4, with the signed JSON attached. Equal certificates give equal bytes.

    Raises:
        InputError: If the document is not a certificate as `sign` returns it.
    """
    sheet = sheet_of(document)
    pdf = _Paper(sheet.title, sheet.issued_at)
    pdf.paragraph("Certificate of erasure", 20, bold=True)
    pdf.paragraph(sheet.issued + sheet.issued_at, TEXT, SOFT)
    pdf.ln(3)
    pdf.paragraph(sheet.verdict, 12, GOOD if sheet.passed else BAD, bold=True)
    pdf.facts(sheet.requested)
    pdf.facts(sheet.eraser)
    pdf.heading("What was measured", "On prompts that were not used to make the eraser. Intervals are 95 %.")
    pdf.checks(sheet.checks)
    pdf.promises("What is promised", sheet.promised)
    pdf.promises("What is not promised", sheet.not_promised)
    pdf.facts(sheet.signature, f"{CHECKABLE}. It is attached as {ATTACHED}.")
    pdf.embed_file(
        bytes=f"{json.dumps(document, indent=2, sort_keys=True)}\n".encode(),
        basename=ATTACHED,
        mime_type="application/json",
        desc="the signed certificate",
        creation_date=pdf.issued,
        modification_date=pdf.issued,
    )
    return bytes(pdf.output())


class _Paper(FPDF):
    """A4 pages with a footer, and fonts with more letters than the built-in fonts of PDF."""

    def __init__(self, title: str, issued_at: str) -> None:
        super().__init__(format="A4")
        self.issued = datetime.fromisoformat(issued_at)
        fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
        for family, style, file in ((FAMILY, "", FAMILY), (FAMILY, "B", f"{FAMILY}-Bold"), (EXACT, "", EXACT)):
            self.add_font(family, style, fonts / f"{file}.ttf")
        self.set_title(title)
        self.set_lang("en")
        self.set_creation_date(self.issued)
        self.set_margin(MARGIN)
        self.set_auto_page_break(True, MARGIN)
        self.set_draw_color(*LINE)
        self.add_page()

    def footer(self) -> None:
        """Write the page number."""
        self.set_y(-MARGIN + 4)
        self._write_with(FAMILY, 8, SOFT)
        self.cell(0, 5, f"{self.title}, page {self.page_no()}", align="C")

    def paragraph(self, text: str, size: float, colour: tuple[int, int, int] = INK, *, bold: bool = False) -> None:
        """Write text as a paragraph."""
        self._write_with(FAMILY, size, colour, bold=bold)
        self.multi_cell(0, size * 0.5, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def heading(self, title: str, note: str = "") -> None:
        """Write a title and a note, on a new page if only the title would fit on this one."""
        if self.will_page_break(32):
            self.add_page()
        self.ln(5)
        self.paragraph(title, 12.5, bold=True)
        self.ln(0.5)
        if note:
            self.paragraph(note, SMALL, SOFT)
        self.ln(1)

    def facts(self, section: Section, more: str = "") -> None:
        """Write a section of labels and values."""
        self.heading(section.title, f"{section.note} {more}".strip())
        exact, label = FontFace(family=EXACT, size_pt=SMALL - 0.5), FontFace(color=SOFT)
        self._write_with(FAMILY, SMALL, INK)
        with self._table((30, 70), ("LEFT", "LEFT")) as table:
            for row in section.rows:
                line = table.row()
                line.cell(row.label, style=label)
                line.cell(row.value, style=exact if row.exact else None)

    def checks(self, rows: Sequence[tuple[tuple[str, ...], bool]]) -> None:
        """Write the table of checks."""
        self._write_with(FAMILY, SMALL - 0.5, INK)
        aligned = ("LEFT", *["RIGHT"] * (len(COLUMNS) - 2), "LEFT")
        with self._table((36, 11, 19, 18, 10, 13), aligned, headings=True) as table:
            table.row(COLUMNS)
            for cells, passed in rows:
                line = table.row()
                for cell in cells[:-1]:
                    line.cell(cell)
                line.cell(cells[-1], style=FontFace(color=GOOD if passed else BAD))

    def promises(self, title: str, lines: Sequence[str]) -> None:
        """Write a list of sentences."""
        self.heading(title)
        for text in lines:
            self._write_with(FAMILY, TEXT, INK)
            self.cell(INDENT, TEXT * 0.5, "•")
            self.multi_cell(0, TEXT * 0.5, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
            self.ln(0.8)

    def _table(self, widths: tuple[int, ...], aligned: tuple[str, ...], *, headings: bool = False) -> Any:
        return self.table(
            col_widths=widths,
            text_align=aligned,
            borders_layout="HORIZONTAL_LINES",
            line_height=4.6,
            padding=(0.7, 2, 0.7, 0),
            v_align=VAlign.T,
            first_row_as_headings=headings,
            headings_style=FontFace(color=SOFT, emphasis=""),
        )

    def _write_with(self, family: str, size: float, colour: tuple[int, int, int], *, bold: bool = False) -> None:
        self.set_font(family, "B" if bold else "", size)
        self.set_text_color(*colour)
