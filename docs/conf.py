"""How the documentation is built: ``sphinx-build -W -n docs docs/_build``."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import ai_ledger

project = "ai-ledger"
author = "the ai-ledger contributors"
version = release = ai_ledger.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ai-ledger {version}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Single backticks in docstrings name things of the code, not always documented ones.
default_role = "code"
python_use_unqualified_type_names = True

# Names of other projects are not looked up: a build makes no requests.
nitpick_ignore_regex = [("py:.*", r"(?!ai_ledger\.).*")]


def _public(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Node | None:
    """Take a type by the name it is documented under, whichever module it lives in."""
    name = str(node.get("reftarget", ""))
    last = name.rpartition(".")[2]
    if not name.startswith("ai_ledger."):
        return None
    if last not in ai_ledger.__all__ or name == f"ai_ledger.{last}":
        # A type that only appears in signatures stays plain text; a reference that
        # somebody wrote must lead somewhere.
        return content if node.get("reftype") == "class" and "." in name[10:] else None
    domain = env.domains["py"]
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", f"ai_ledger.{last}", node, content
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("missing-reference", _public)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
