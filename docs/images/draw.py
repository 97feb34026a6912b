"""Draws demo.svg from the output of a real run: `make demo | .venv/bin/python docs/images/draw.py > docs/images/demo.svg`."""

import io
import re
import sys

from rich.console import Console
from rich.text import Text

_SHOWN = ("While her machine boots", "What the jobs left", "Leases", "All of it held")
_LEFT_OUT = re.compile(r"^\s+bob|neighbour|^ran on|/home/alice|^buy: |by bob|^  yes  (alice got|bob's|every)")
_COLUMNS = 82
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"


def main() -> None:
    """Standard input: the demo's output; standard output: the picture. No font or style is fetched from anywhere."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    blocks = [block.rstrip() for block in re.split(r"\n\s*\n(?=\S)", sys.stdin.read())]
    shown = [block for block in blocks if block.startswith(_SHOWN)]
    console.print(Text("$ make demo", style="bold #8ec07c"))
    for block in shown:
        console.print()
        for number, line in enumerate(line for line in block.splitlines() if not _LEFT_OUT.search(line)):
            console.print(_styled(line, heading=number == 0), soft_wrap=True)
    svg = console.export_svg(title="make demo: the cloud is emulated; Slurm, SSH and WireGuard are real")
    svg = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL).replace(
        "Fira Code, monospace", _FONTS
    )
    svg = svg.replace("font-family: arial", f"font-family: {_FONTS}")
    sys.stdout.write("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def _styled(line: str, heading: bool) -> Text:
    text = Text(line.strip(), style="bold" if heading else "")
    text.highlight_regex(r"^yes  ", "bold #98c379")
    text.highlight_regex(r"^(alice|bob|root)\S*[$#].*", "bold #8ec07c")
    text.highlight_regex(r"^node .*|^\d\d:\d\d:\d\d  ", "#83a598")
    return text


if __name__ == "__main__":
    main()
