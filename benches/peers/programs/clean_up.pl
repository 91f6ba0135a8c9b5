# Deletes expired sessions: CGI::Session does that itself to each one that find() loads.
use strict;
use warnings;
use CGI::Session;

CGI::Session->find('driver:file', sub { }, { Directory => $ENV{SESSION_DIRECTORY} })
    or die CGI::Session->errstr;
