"""An exported file in a browser: the page that runs it, and a server of both for this machine alone.

The page is built from the folder web/ of the project, and is all that computes. Reads the model file
(gptloop.model_file) and nothing else; imports no runtime.
"""

from gptloop.web.server import PageServer
from gptloop.web.site import PAGE, open_site

__all__ = ["PAGE", "PageServer", "open_site"]
