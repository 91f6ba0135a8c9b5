<?php
// The same page with PHP's files handler.
session_start();
$views = ($_SESSION['pageViews'] ?? 0) + 1;
$_SESSION['pageViews'] = $views;
session_write_close();
echo "<!doctype html>\n<title>Counter</title>\n<p>Hello, you've been here $views time(s)</p>\n";
