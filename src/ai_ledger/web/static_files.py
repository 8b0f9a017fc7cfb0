"""`Static`: the console's scripts and styles, which wait for no page."""

from __future__ import annotations

import stat
from functools import partial
from mimetypes import guess_type
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from ai_ledger.web.seats import aside


class Static(StaticFiles):
    """Files of a folder, each small enough to be sent as one; read in threads of their own."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """
        The file at *path*.

        Raises:
            HTTPException: 404, there is none; 405, only GET and HEAD are for files.
        """
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405)
        return await aside("static", partial(self._read, path, Headers(scope=scope)))

    def _read(self, path: str, asked: Headers) -> Response:
        try:
            full, found = self.lookup_path(path)
        except (OSError, ValueError):
            raise HTTPException(404) from None
        if found is None or not stat.S_ISREG(found.st_mode):
            raise HTTPException(404)
        # Only for its headers: sending it, too, would take threads of pages.
        kept = FileResponse(full, stat_result=found).headers
        response = Response(Path(full).read_bytes(), media_type=guess_type(full)[0])
        for name in ("etag", "last-modified"):
            response.headers[name] = kept[name]
        if self.is_not_modified(response.headers, asked):
            return NotModifiedResponse(response.headers)
        return response
