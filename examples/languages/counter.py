#!/usr/bin/env -S cgi-session start python3
# A counter in Python. The first line holds the session while this program runs, stores what it
# leaves in the file, and only then sends the page, with the cookie in it. A program that fails, by
# an exception for instance, stores nothing, and the visitor gets a complete error page.
import json
import os

path = os.environ["SESSION_VALUES"]
with open(path, encoding="utf-8") as file:
    session = json.load(file)

session["pageViews"] = session.get("pageViews", 0) + 1

with open(path, "w", encoding="utf-8") as file:
    json.dump(session, file)

print("Content-Type: text/plain; charset=utf-8")
print()
print(f"Hello from Python, you've been here {session['pageViews']} time(s)")
