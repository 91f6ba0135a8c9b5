#!/usr/bin/env -S cgi-session start perl
# A counter in Perl. The first line holds the session while this program runs, stores what it
# leaves in the file, and only then sends the page, with the cookie in it. A program that dies stores
# nothing, and the visitor gets a complete error page.
use strict;
use warnings;
use JSON::PP;

my $path = $ENV{SESSION_VALUES};
open my $in, '<:raw', $path or die "cannot read $path: $!";
my $session = decode_json(do { local $/; <$in> });
close $in;

# A sum is a number in the JSON; "$n" would make it text, which other languages cannot add to.
$session->{pageViews} = ($session->{pageViews} // 0) + 1;

open my $out, '>:raw', $path or die "cannot write $path: $!";
print {$out} encode_json($session);
close $out or die "cannot write $path: $!";

print "Content-Type: text/plain; charset=utf-8\n\n";
print "Hello from Perl, you've been here $session->{pageViews} time(s)\n";
