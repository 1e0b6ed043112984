# The parent's standby is promoted while the old primary only sleeps (SIGSTOP); the new one adopts
# what runs; the old one, woken, can neither start nor cancel anything on an agent server.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 2, preload => 1, streaming => 1);
my $old = $f->parent;
$f->job('work', 'SELECT etl.work()');
$f->job('hold', 'SELECT etl.work_until_released()');
$f->package('work', -params => '{"key": null}', t => { job => 'work', server => 'a1' });
$f->package('work2', -params => '{"key": null}', t => { job => 'work', server => 'a2' });
$f->package('hold', -params => '{"key": null}', t => { job => 'hold', server => 'a1' },
    after => { job => 'work', server => 'a2', after => '{t}' });

$old->backup('b');
my $new = PostgreSQL::Test::Cluster->new('standby');
$new->init_from_backup($old, 'b', has_streaming => 1);
$new->start;
is($new->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%'}), '0', 'a standby has no agent');

my $run = $f->start('hold', '{"key": "held"}');
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'held' AND what = 'start'}, '1', 'a job runs on a1');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run AND task = 't'", 'running', 'running at the old parent');
$old->wait_for_catchup($new, 'replay', $old->lsn('write'));
my ($rc, $out, $err) = $f->try_as(undef, q{SELECT pg_is_in_recovery()});
is($out, 'f', 'the old one is a primary');

# the old one sleeps: every process of it
my @processes = $f->processes('parent');
kill 'STOP', @processes;
$new->promote;

# from here on the parent is the new one
$f->{nodes}{parent} = $new;
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND datname = 'dw'", '1', 'the promoted standby has an agent by itself');
$f->run_is($f->start('work2', '{"key": "on_new"}'), 'succeeded', 'and works');
is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run AND task = 't'"), 'running', 'what ran is running still');
$f->wait_for('a1', q{SELECT count(*) FROM fleet_catalog.parent WHERE epoch >> 32 > 1}, '1', 'the child knows the new epoch');

# the old one wakes up and knows nothing of it
kill 'CONT', @processes;
$f->{nodes}{parent} = $old;
my $zombie = $f->start('work', '{"key": "zombie"}');
my $cancel = $f->sql("SELECT fleet.cancel_run($run)");
is($cancel, 't', 'the old one takes a cancel of what it believes to be its run');
$f->wait_for('parent', q{SELECT last_error ~ '^epoch [0-9]+ of parent [0-9a-f-]{36} has ended' FROM fleet.server_status WHERE server = 'a1'}, 't', 'it is refused, and says why');
$f->{nodes}{parent} = $new;
is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run AND task = 't'"), 'running', 'its cancel did not reach the child');
$f->release('held');
$f->run_is($run, 'succeeded', 'the run ends at the new parent');
is($f->witnessed('held', 'start'), 2, 'each of its two jobs was started once (t, and after it the other)');
is($f->effects('a1', 'held'), 1, 'one effect on a1');
is($f->effects('a2', 'held'), 1, 'one effect on a2');
is($f->witnessed('zombie', 'start'), 0, 'the old one started nothing');

$old->stop('immediate');
$f->done(crashes => 1);
