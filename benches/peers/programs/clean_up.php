<?php
// Deletes expired sessions as the manual of session_gc() says a job of cron should.
ini_set('session.save_path', getenv('SESSION_DIRECTORY'));
ini_set('session.gc_maxlifetime', '3600');
ini_set('session.use_strict_mode', '1');
session_start();
$deleted = session_gc();
session_destroy();
exit($deleted === false ? 1 : 0);
