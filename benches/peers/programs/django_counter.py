"""Counts page views with Django's file sessions: under a WSGI server, as CGI, and its clean-up."""

import os
import sys

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import re_path

from visitor import count

settings.configure(
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="the same in every process, and no secret",
    SESSION_ENGINE="django.contrib.sessions.backends.file",
    SESSION_FILE_PATH=os.environ["SESSION_DIRECTORY"],
    SESSION_COOKIE_AGE=60 * int(os.environ.get("SESSION_MINUTES", "60")),
    USE_TZ=True,
)


def page(request):
    return HttpResponse(count(request.session))


urlpatterns = [re_path("", page)]

if __name__ == "__main__":
    if "GATEWAY_INTERFACE" in os.environ:
        from wsgiref.handlers import CGIHandler

        CGIHandler().run(get_wsgi_application())
    else:
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)
else:
    application = get_wsgi_application()
