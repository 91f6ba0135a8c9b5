#!/bin/sh
# A counter in sh, one command at a time: the session is locked only while a command runs.
#
# Another request may come between two commands. What must not be counted twice is therefore one
# command: `set --add` reads, adds and stores under one lock.

# Nothing has been printed yet, so a failure can still be said with a status. stderr has the reason.
fail() {
    printf 'Status: 503 Service Unavailable\nContent-Type: text/plain\n\nPlease try again.\n'
    exit
}

# Prints what to send as Set-Cookie, if anything. The same text is a Cookie header for what follows.
set_cookie=$(cgi-session start) || fail
[ -z "$set_cookie" ] || export HTTP_COOKIE="$set_cookie"

views=$(cgi-session set --add 1 pageViews) || fail

echo 'Content-Type: text/plain; charset=utf-8'
echo 'Cache-Control: no-store'
[ -z "$set_cookie" ] || printf 'Set-Cookie: %s\n' "$set_cookie"
echo
echo "Hello from sh, you've been here $views time(s)"
