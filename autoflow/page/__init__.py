"""The page: `index.html` in the outputs folder, on which analysts find reports, and why there is none."""

from autoflow.page.writer import PAGE_NAME, PageWriter, write_page

__all__ = ["PAGE_NAME", "PageWriter", "write_page"]
