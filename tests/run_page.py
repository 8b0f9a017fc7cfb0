"""
Runs the blocks of one page of the documentation as one program; for ``test_docs``.

Takes ``[page, [[line, language, body], …]]`` as JSON on standard input, and prints a
mark before what each block prints. A language that is neither ``python`` nor ``sh`` is
the name of a file that the body is written to.
"""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType

MARK = "--- block "


def run(page: str, blocks: list[tuple[int, str, str]]) -> None:
    """Run all blocks, in order, with names in common."""
    # A module of its own, where pickle and dataclasses find what the page defines.
    module = sys.modules["__main__"] = ModuleType("__main__")
    for line, language, body in blocks:
        print(f"{MARK}{line}", flush=True)
        if language == "python":
            # Padded, so that a traceback names the line of the page.
            exec(compile("\n" * (line - 1) + body, page, "exec"), vars(module))
        elif language == "sh":
            for command in body.splitlines():
                if command.startswith("ai-ledger "):
                    done = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL)
                    # 1 is the answer when there is nothing to show.
                    if done.returncode not in (0, 1):
                        sys.exit(f"{page}:{line}: {command}: exit code {done.returncode}")
        else:
            with open(language, "w", encoding="utf-8") as file:
                file.write(body)


if __name__ == "__main__":
    run(*json.loads(sys.stdin.read()))
