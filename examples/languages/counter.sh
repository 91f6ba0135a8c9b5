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

# Prints the new number, and on a second line what to send as Set-Cookie, if anything. For further
# commands: export HTTP_COOKIE="$set_cookie"
counted=$(cgi-session set --add 1 pageViews) || fail
newline='
'
views=${counted%%"$newline"*}
set_cookie=${counted#"$views"}
set_cookie=${set_cookie#"$newline"}

echo 'Content-Type: text/plain; charset=utf-8'
echo 'Cache-Control: no-store'
[ -z "$set_cookie" ] || printf 'Set-Cookie: %s\n' "$set_cookie"
echo
echo "Hello from sh, you've been here $views time(s)"
