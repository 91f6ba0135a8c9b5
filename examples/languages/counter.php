#!/usr/bin/env -S cgi-session start php
<?php
// A counter in PHP's command line (php-cli), which sends no header by itself: header() does nothing
// here, the header block is printed. The first line holds the session while this program runs, stores
// what it leaves in the file, and only then sends the page, with the cookie in it. After an
// exception nothing is stored, and the visitor gets a complete error page.
declare(strict_types=1);

$path = getenv('SESSION_VALUES');
$session = json_decode(file_get_contents($path), true, 512, JSON_THROW_ON_ERROR);

$session['pageViews'] = ($session['pageViews'] ?? 0) + 1;

// An empty array would be written as [], which is no object.
file_put_contents($path, json_encode((object) $session, JSON_THROW_ON_ERROR));

echo "Content-Type: text/plain; charset=utf-8\n\n";
echo "Hello from PHP, you've been here {$session['pageViews']} time(s)\n";
