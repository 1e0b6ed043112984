# A hook with whose call the server ends, however that comes (out of memory, say), does not end it for ever: it is given up for that event, and
# all others go on.  (test build)
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 0, delays => 0, witness => 0, conf => "fleet.max_runners = 4\nrestart_after_crash = on\nshared_preload_libraries = 'pg_fleet'");
$f->package('bad', t => { sql => 'SELECT 1 / 0' });
$f->package('good', t => { sql => 'SELECT 1' });
$f->sql('CREATE TABLE called (n bigint GENERATED ALWAYS AS IDENTITY)');

sub crashes { my $n = () = PostgreSQL::Test::Utils::slurp_file($f->parent->logfile) =~ /was terminated by signal 9/g; return $n; }
# A session may be there before the server ends, and may not get in until it is back.
sub comes_back
{
    my ($query, $expected, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok($f->parent->poll_query_until($FleetTest::DB, $query, $expected), $name);
    return;
}
my $kills = q{COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'};

$f->sql(qq{SELECT fleet.add_hook('ends', sql => \$\$INSERT INTO called DEFAULT VALUES; SELECT 1; $kills\$\$, on_event => '{run_failed}', retries => 100)});
$f->parent->psql($FleetTest::DB, q{SELECT fleet.run_parent_package('bad')});
comes_back(q{SELECT state || ' ' || sqlstate || ' ' || message FROM fleet.hook_call}, 'failed 57P02 the agent, or the server, has ended with its call', 'a call that ends the server is given up');
is(crashes(), 3, '... the third time');
comes_back(q{SELECT failures || ' ' || sqlstate FROM fleet.hooks}, '1 57P02', 'which fleet.hooks says');
$f->run_is($f->start('good'), 'succeeded', 'others run');
$f->parent->psql($FleetTest::DB, q{SELECT fleet.run_parent_package('bad')});
comes_back(q{SELECT count(*) FROM fleet.hook_call WHERE state = 'failed'}, '2', 'the next event too');
is(crashes(), 4, '... the first time');
$f->sql(q{SELECT fleet.alter_hook('ends', sql => 'INSERT INTO called DEFAULT VALUES')});
$f->run_is($f->start('bad'), 'failed', 'another event');
$f->wait_for('parent', q{SELECT count(*) FROM fleet.hook_call WHERE state = 'succeeded'}, '1', 'a hook that works again is called');
is($f->sql('SELECT called IS NULL AND cuts = 0 FROM fleet_catalog.hook_state'), 't', '... and no end is counted any more');
$f->done(crashes => 1);
