# Counts page views with CGI::Session's files, under FastCGI by CGI::Fast and as CGI.
use strict;
use warnings;
use CGI::Fast;
use CGI::Session;

my %visitor = (
    name     => 'Ada Lovelace',
    mail     => 'ada.lovelace@example.org',
    language => 'en-GB,en;q=0.8,fr;q=0.5',
    address  => "12 St James's Square, London SW1Y 4LE, United Kingdom",
    basket   => '4711:1,4712:3,4713:2,4714:1,4715:5,4716:1,4717:2,4718:4',
    seen     => '/,/books,/books/4711,/books/4712,/basket,/books/4713,/basket,/books/4714,/checkout',
    agent    => 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0',
    theme    => 'dark',
    note     => 'Please leave the parcel with the neighbours',
);
# Under FastCGI the environment of a request replaces that of the process.
my $directory = $ENV{SESSION_DIRECTORY};
my $minutes   = $ENV{SESSION_MINUTES} // 60;

while (my $query = CGI::Fast->new) {
    my $session = CGI::Session->new('driver:file', $query, { Directory => $directory })
        or die CGI::Session->errstr;
    my $views = ($session->param('pageViews') // 0) + 1;
    if ($views == 1) {
        $session->param($_, $visitor{$_}) for keys %visitor;
        $session->expire("${minutes}m");
    }
    $session->param(pageViews => $views);
    # A program that goes on must not leave this to the destructor.
    $session->flush or die $session->errstr;
    print $session->header(-charset => 'utf-8'),
        "<!doctype html>\n<title>Counter</title>\n<p>Hello, you've been here $views time(s)</p>\n";
}
