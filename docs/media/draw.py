"""Draws a terminal's output as SVG: draw.py CAST SVG."""

import io
import re
import sys

from rich.console import Console
from rich.text import Text

cast, svg = sys.argv[1:]
text = open(cast, encoding="utf-8").read().rstrip()
# What was overwritten on its line was not seen in the end.
text = "\n".join(re.sub(r".*(\r|\x1b\[K)", "", line) for line in text.split("\n"))
console = Console(record=True, width=110, file=io.StringIO(), force_terminal=True)
console.print(Text.from_ansi(text))
drawn = console.export_svg(title="DevSanctum")
# No font is fetched from elsewhere: the reader's own monospace does.
drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.S).replace("Fira Code", "monospace")
open(svg, "w", encoding="utf-8").write(re.sub(r"[ \t]+\n", "\n", drawn))
