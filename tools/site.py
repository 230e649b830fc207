"""What `make site` adds to docs/: pages of other files in the repository that documents link to.

A link in a document is a path in the repository, so that it leads somewhere on a git host, too. In
the site README.md is the first page, CHANGELOG.md and CONTRIBUTING.md are pages, and any other file
that is linked to has a page that shows it.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_DOCUMENTS = {
    ROOT / "README.md": "index.md",
    ROOT / "CHANGELOG.md": "changelog.md",
    ROOT / "CONTRIBUTING.md": "contributing.md",
}
_LINK = re.compile(r"(?<=\]\()[^)#:\s]+(?=[)#])")
_LANGUAGES = {".json": "json", ".py": "python", ".sh": "sh", ".yaml": "yaml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents at the root of the repository, and what is linked to outside docs/."""
    for document, uri in _DOCUMENTS.items():
        files.append(File.generated(config, uri, abs_src_path=str(document)))
    for file in sorted({*_linked()} - {*_DOCUMENTS}):
        name = file.relative_to(ROOT)
        text = f"# {name}\n\n````{_LANGUAGES[file.suffix]}\n{file.read_text()}\n````\n"
        page = File.generated(config, _uri(file), content=text)
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let the links of a document lead to the pages that there are of those files."""
    source = Path(page.file.abs_src_path or DOCS / page.file.src_uri)

    def relative(link: re.Match[str]) -> str:
        file = (source.parent / link[0]).resolve()
        return (
            os.path.relpath(_uri(file), Path(page.file.src_uri).parent)
            if file.exists()
            else link[0]
        )

    return _LINK.sub(relative, markdown)


def _linked() -> Iterator[Path]:
    """The files outside docs/ that documents link to."""
    for document in [*_DOCUMENTS, *DOCS.rglob("*.md")]:
        for link in _LINK.findall(document.read_text()):
            file = (document.parent / link).resolve()
            if file.is_file() and not file.is_relative_to(DOCS):
                yield file


def _uri(file: Path) -> str:
    """Where in the site a file of the repository is."""
    if file.is_relative_to(DOCS):
        return f"{file.relative_to(DOCS)}"
    return _DOCUMENTS.get(file, f"{file.relative_to(ROOT)}.md")
