# The tools of the other suites: the proxy's own tests.
use strict;
use warnings;
use File::Basename;

exec '/usr/bin/python3', dirname(__FILE__) . '/../proxy/test_proxy.py' or die "python3: $!\n";
