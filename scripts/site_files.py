"""A hook of mkdocs: the site holds the repository's pages at the places that their links name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parent.parent
SHOWN = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"),
    *("docs/**/*.md", "assets/*", "benchmarks/*.md", "benchmarks/*.json", "examples/*.jsonl"),
    *("examples/integrations/*.*", "examples/integrations/lm_eval/*.yaml"),
    *("Dockerfile", "compose.yaml", "deploy/*/*", "deploy/*.*"),
)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Put what is shown in the place of what stands in docs/; the theme's own files stay."""
    from mkdocs.structure.files import File

    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files
