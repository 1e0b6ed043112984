# A job whose step is a package, on an agent server: what happens inside is seen at the parent.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 0);
$f->package('deep', talk => { sql => q{DO $x$ BEGIN RAISE NOTICE 'deep inside'; END $x$} });
$f->package('inner',
    first  => { sql => q{DO $x$ BEGIN RAISE WARNING 'from inside'; END $x$} },
    second => { package => 'deep', after => '{first}' });
$f->job('outer', { name => 'run it', package => 'inner' });
$f->package('p', t => { job => 'outer', server => 'a1' });

my $run = $f->start('p');
$f->run_is($run, 'succeeded', 'a package in a package as a step of a remote job');
is( $f->sql("SELECT string_agg(level || ' ' || message, ' | ' ORDER BY seq) FROM fleet.log WHERE run_id = $run AND message ~ 'inside'"),
    'WARNING from inside | NOTICE deep inside',
    'what the inner steps say is in the log, in order, once');
is( $f->sql("SELECT count(*) = max(seq) AND min(seq) = 1 FROM fleet.log WHERE run_id = $run"), 't', 'without a gap');
like($f->sql("SELECT string_agg(message, ' | ' ORDER BY seq) FROM fleet.log WHERE run_id = $run"),
    qr/first: step "first" started.*first: step "first" succeeded.*talk: step "talk" succeeded/, 'inner steps begin and end there too');

# what fails inside fails outside, with its reason; a timeout does not read like a cancel
$f->package('bad', boom => { sql => 'SELECT 1/0' });
$f->job('outer_bad', { name => 'run it', package => 'bad' });
$f->package('q', t => { job => 'outer_bad', server => 'a1' });
$run = $f->start('q');
$f->run_is($run, 'failed', 'a failure inside reaches the parent');
like($f->sql("SELECT message FROM fleet.task_run WHERE run_id = $run"), qr/boom.*division by zero/, 'with its reason');
$f->package('slow', t => { sql => 'SELECT pg_sleep(600)', timeout => '200ms' });
$run = $f->start('slow');
$f->run_is($run, 'failed', 'a task that takes longer than its timeout has failed');
is($f->sql("SELECT sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $run"),
    '57014 the task run was stopped because of its timeout', 'and says why');
$f->done;
