"""Counts page views with CherryPy's file sessions: under a WSGI server, as CGI, and its clean-up."""

import os

import cherrypy
from cherrypy.lib.sessions import FileSession

from visitor import count

DIRECTORY = os.environ["SESSION_DIRECTORY"]
MINUTES = int(os.environ.get("SESSION_MINUTES", "60"))


class Counter:
    @cherrypy.expose
    def default(self, *path):
        return count(cherrypy.session)


cherrypy.config.update({"environment": "embedded", "log.screen": False})
application = cherrypy.Application(
    Counter(),
    "",
    {
        "/": {
            "tools.sessions.on": True,
            "tools.sessions.storage_class": FileSession,
            "tools.sessions.storage_path": DIRECTORY,
            "tools.sessions.timeout": MINUTES,
        }
    },
)

if __name__ == "__main__":
    if "GATEWAY_INTERFACE" in os.environ:
        from wsgiref.handlers import CGIHandler

        CGIHandler().run(application)
    else:
        FileSession(storage_path=DIRECTORY, timeout=MINUTES).clean_up()
