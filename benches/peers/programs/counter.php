<?php
// Counts page views with PHP's files handler, as php-fpm and as php-cgi.
ini_set('session.save_path', getenv('SESSION_DIRECTORY') ?: $_SERVER['SESSION_DIRECTORY']);
// PHP's own advice on the security of sessions.
ini_set('session.use_strict_mode', '1');

const VISITOR = [
    'name' => 'Ada Lovelace',
    'mail' => 'ada.lovelace@example.org',
    'language' => 'en-GB,en;q=0.8,fr;q=0.5',
    'address' => "12 St James's Square, London SW1Y 4LE, United Kingdom",
    'basket' => '4711:1,4712:3,4713:2,4714:1,4715:5,4716:1,4717:2,4718:4',
    'seen' => '/,/books,/books/4711,/books/4712,/basket,/books/4713,/basket,/books/4714,/checkout',
    'agent' => 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0',
    'theme' => 'dark',
    'note' => 'Please leave the parcel with the neighbours',
];

session_start();
$views = ($_SESSION['pageViews'] ?? 0) + 1;
if ($views === 1) {
    $_SESSION = VISITOR;
}
$_SESSION['pageViews'] = $views;
session_write_close();
echo "<!doctype html>\n<title>Counter</title>\n<p>Hello, you've been here $views time(s)</p>\n";
