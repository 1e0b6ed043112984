# History that is kept no longer goes: by setting, by the rules of its package, or because somebody says so; a run with
# all that belongs to it, on both sides, and nothing else.  Time is put back by hand.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, delays => 0);
my $pid;

$f->job('work', 'SELECT etl.work()');
$f->package('inner', -params => '{"key": "k"}', each => { job => 'work', on_group => 'all', for_each => 'SELECT i FROM generate_series(1, 3) AS i' });
$f->package('outer', -params => '{"key": "k"}', a => { job => 'work', server => 'a1' }, d => { job => 'work', server => 'd1' }, n => { nested => 'inner' },
    s => { sql => q{DO $$BEGIN RAISE NOTICE 'said'; END$$} });
$f->sql(q{SELECT fleet.add_precedence('outer', 'a', 's', condition => 'true')});
$f->package('fails', f => { sql => 'SELECT 1 / 0' });

sub ran
{
    my ($package, $state) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $run = $f->start($package);
    $f->run_is($run, $state || 'succeeded', "$package runs");
    return $run;
}
# It all happened so many days earlier.
sub put_back
{
    my ($days, @runs) = @_;
    $f->sql("UPDATE fleet_catalog.run SET queued_at = queued_at - interval '$days days', finished_at = finished_at - interval '$days days' WHERE run_id = $_ OR parent_run_id = $_") for @runs;
    return;
}
my @tables = qw(run task_run step_run log_line condition_result cancel_request skip_request retry_request);
sub left
{
    my (@runs) = @_;
    my $in = join ', ', @runs;
    return $f->sql(join ' UNION ALL ', map { "SELECT '$_ ' || run_id || ' ' || count(*) FROM fleet_catalog.$_ WHERE run_id IN ($in) GROUP BY run_id" } @tables);
}
sub with_nested { my ($run) = @_; return ($run, split /\n/, $f->sql("SELECT run_id FROM fleet_catalog.run WHERE parent_run_id = $run")); }
# A purge that has begun after this is over.
sub purged
{
    my ($call, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $said = $f->sql($call);
    $f->wait_for('parent', 'SELECT (SELECT count(*) FROM fleet_catalog.purge_request) + (SELECT count(*) FROM fleet_catalog.purged)', '0', $name);
    return $said;
}
sub there { return $f->sql(q{SELECT string_agg(run_id::text, ' ' ORDER BY run_id) FROM fleet.run WHERE package <> 'inner'}); }

# ---- by the setting ----------------------------------------------------------------------------

my @runs = map { ran('outer') } 1 .. 3;
$f->sql("SELECT fleet.cancel_run($runs[0])");
my @old = with_nested($runs[0]);
is(scalar @old, 2, 'a run has a nested one');
put_back(91, $runs[0]);
put_back(89, $runs[1]);
my @others = map { with_nested($_) } @runs[ 1, 2 ];
my $before = left(@others);
is($f->sql('SELECT * FROM fleet.purge(dry_run => true)'), '2|' . $f->sql("SELECT count(*) FROM fleet_catalog.task_run WHERE run_id IN ($old[0], $old[1])") . '|0|'
      . $f->sql("SELECT count(*) FROM fleet_catalog.log_line WHERE run_id IN ($old[0], $old[1])"), 'dry_run says what is to go');
is(there(), join(' ', @runs), 'and does nothing');
is(purged('SELECT runs FROM fleet.purge()', 'it is purged'), '2', 'purge says how many runs are to go');
is(left(@old), '', 'nothing is left of a run that ended 91 days ago, nor of its nested run');
is(left(@others), $before, 'of others nothing is gone, nor of their nested runs');
$f->fails('SELECT fleet.purge()', '42501', 'not everybody may purge', as => 'etl', like => qr/permission denied to purge history/, help => 1);
$f->fails(q{SELECT fleet.purge(older_than => '-1 day')}, '22023', 'what is to come is not history', help => 1);

# ... which is looked at when it changes
$f->sql('ALTER SYSTEM SET fleet.keep_days = 80');
$f->sql('SELECT pg_reload_conf()');
$f->wait_for('parent', "SELECT count(*) FROM fleet.run WHERE run_id = $runs[1]", '0', 'with keep_days = 80 the next one goes by itself');
$f->sql('ALTER SYSTEM SET fleet.keep_days = -1');
$f->sql('SELECT pg_reload_conf()');
put_back(3000, $runs[2]);
purged('SELECT fleet.purge()', 'a purge with keep_days = -1');
is(there(), $runs[2], 'keeps everything');
purged(q{SELECT fleet.purge(older_than => '2000 days')}, 'a purge of what is older than 2000 days');
is(there(), '', 'purges that');
$f->sql('ALTER SYSTEM RESET fleet.keep_days');
$f->sql('SELECT pg_reload_conf()');

# ---- by the package ----------------------------------------------------------------------------

$f->sql(q{SELECT fleet.set_retention('outer', keep_days => 10, keep_failed_days => 400); SELECT fleet.set_retention('fails', keep_runs => 2)});
is($f->sql(q{SELECT keep_days, keep_runs, keep_failed_days FROM fleet.package WHERE package IN ('outer', 'fails', 'inner') ORDER BY package}), "|2|\n||\n10||400", 'the view shows it');
@runs = (map({ ran('outer') } 1, 2), map { ran('fails', 'failed') } 1 .. 4);
put_back(11, $runs[0]);
put_back(9, $runs[1]);
purged('SELECT fleet.purge()', 'purged by rules');
is(there(), join(' ', @runs[ 1, 4, 5 ]), 'of one package what is older than 10 days, of the other all but the last two');
$f->sql("UPDATE fleet_catalog.run SET state = 12 WHERE run_id = $runs[1]");
put_back(380, $runs[1]);
purged('SELECT fleet.purge()', 'purged again');
is(there(), join(' ', @runs[ 1, 4, 5 ]), 'one that failed is kept for longer');
put_back(20, $runs[1]);
purged('SELECT fleet.purge()', 'purged again');
is(there(), join(' ', @runs[ 4, 5 ]), 'but not for ever');
$f->sql(q{SELECT fleet.set_retention('fails')});
is($f->sql('SELECT count(*) FROM fleet_catalog.retention'), '1', 'without arguments the setting holds again');

# ---- what belongs together ---------------------------------------------------------------------

my $again = $f->sql("SELECT fleet.restart_run($runs[5])");
$f->run_is($again, 'failed', 'a restart');
put_back(100, @runs[ 4, 5 ]);
purged('SELECT fleet.purge()', 'purged');
is(there(), "$runs[5] $again", 'a run stays as long as the one that restarts it');
# whoever restarts a run has it until COMMIT
put_back(100, $again);
my $session = $f->parent->background_psql($FleetTest::DB);
$session->query_safe("BEGIN; SELECT fleet.restart_run($again)");
purged('SELECT fleet.purge()', 'purged while a restart is not committed');
$session->query_safe('COMMIT');
my $third = $f->sql("SELECT run_id FROM fleet.run WHERE restart_of = $again");
$f->run_is($third, 'failed', 'what it restarts is there');
like(there(), qr/\b$again $third\z/, 'and stays');
put_back(100, $third);
purged('SELECT fleet.purge()', 'purged');
is(there(), '', 'all of the chain goes when the last of it is due');

# It goes as a whole, also if the newest is kept for less than the one that it restarts.
$f->sql(q{SELECT fleet.set_retention('fails', keep_days => 1, keep_failed_days => 7)});
my $first = ran('fails', 'failed');
$f->run_is($third = $f->sql("SELECT fleet.restart_run($first)"), 'failed', 'a restart');
$f->sql("UPDATE fleet_catalog.run SET state = 11 WHERE run_id = $third"); # as if it had succeeded
put_back(2, $first, $third);
purged('SELECT fleet.purge()', 'purged');
is(there(), "$first $third", 'the restart of a run that is kept is kept');
put_back(6, $first, $third);
purged('SELECT fleet.purge()', 'purged');
is(there(), '', 'and goes with it');
$f->sql(q{SELECT fleet.set_retention('fails')});

# Nobody waits for a session: what it holds is left for the next time.
$f->sql(qq{SELECT fleet.set_retention('fails', keep_days => 0)});
my $held = ran('fails', 'failed');
$f->sql("INSERT INTO fleet_catalog.skip_request (run_id, task_no, item) VALUES ($held, 0, 0)"); # as a skip that came too late leaves it
$session->query_safe("BEGIN; SELECT FROM fleet_catalog.skip_request WHERE run_id = $held FOR UPDATE");
$f->sql('SELECT fleet.purge()');
$f->wait_for('parent', 'SELECT count(*) FROM fleet_catalog.purge_request', '0', 'a purge ends although a session holds a row of a purged run');
is($f->sql("SELECT count(*) FROM fleet_catalog.task_run WHERE run_id = $held"), '0', 'all else of the run is gone');
ran('fails', 'failed');
$session->query_safe('ROLLBACK');
purged('SELECT fleet.purge()', 'purged when it is free');
is($f->sql("SELECT count(*) FROM fleet_catalog.skip_request WHERE run_id = $held"), '0', 'then it goes, too');
$f->sql(q{SELECT fleet.set_retention('fails')});

# ---- by hand -----------------------------------------------------------------------------------

my $run = ran('outer');
my @rows = with_nested($run);
$f->sql("DELETE FROM fleet_catalog.run WHERE run_id = $run");
is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $run") + $f->sql("SELECT count(*) FROM fleet.job_log WHERE run_id = $run") + $f->sql("SELECT count(*) FROM fleet.log WHERE run_id = $run"), 0, 'a run that a superuser deletes is not seen any more');
purged('SELECT fleet.purge()', 'and at the next purge');
is(left(@rows), '', 'its rows go, with its nested run');

# ---- on the server -----------------------------------------------------------------------------

ran('outer') for 1, 2;
$f->wait_for('a1', 'SELECT count(*) FROM fleet_catalog.job_run WHERE acknowledged_at IS NULL', '0', 'the parent knows all job runs');
$f->sql_on('a1', q{UPDATE fleet_catalog.job_run SET finished_at = finished_at - interval '91 days'});
my $kept = $f->sql_on('a1', 'SELECT max(job_run_id) FROM fleet_catalog.job_run');
$f->sql_on('a1', "UPDATE fleet_catalog.job_run SET acknowledged_at = NULL WHERE job_run_id = $kept");
$f->sql_on('a1', 'SELECT fleet.purge()');
$f->wait_for('a1', 'SELECT count(*) FROM fleet_catalog.job_run', '1', 'job runs go, too');
$f->wait_for('a1', 'SELECT count(*) FROM fleet_catalog.purged', '0', 'and what belongs to them');
is($f->sql_on('a1', "SELECT count(*) FROM fleet_catalog.step_run WHERE job_run_id <> $kept"), '0', 'their steps');
is($f->sql_on('a1', 'SELECT max(job_run_id) FROM fleet_catalog.job_run'), $kept, 'but what the parent does not know yet');
# the next run of the job, by an agent that has not seen its document
my $child = $f->agent_pid('a1');
$f->sql_on('a1', "SELECT pg_terminate_backend($child)");
$f->wait_for('a1', "SELECT count(*) FROM pg_stat_activity WHERE pid = $child", '0', 'the agent there ends');
ran('outer');

# A key is used again after its run is gone: the servers, which keep theirs for themselves, do not say that it is done.
$f->package('keyed', -params => '{"key": null}', a => { job => 'work', server => 'a1' });
sub keyed { return $f->sql(q{SELECT fleet.run_parent_package('keyed', params => '{"key": "keyed"}', run_key => 'monday')}) }
for my $times (1 .. 3)
{
    $run = keyed();
    $f->run_is($run, 'succeeded', "the run of a key, $times");
    is(keyed(), $run, 'the key is the run, as long as it is there');
    is($f->effects('a1', 'keyed'), $times, '... and it was done');
    purged(q{SELECT fleet.purge(older_than => '0')}, 'it is purged');
}

# ---- documents, and what was learned -----------------------------------------------------------

purged(q{SELECT fleet.purge(older_than => '0')}, 'everything that is over is purged');
$f->wait_for('parent', 'SELECT count(*) FROM fleet_catalog.definition', '0', 'then there are no documents');
is($f->sql('SELECT count(*) FROM fleet_catalog.definition_task'), '0', 'nor their tasks');
ran('outer'); # its document is there, and this run goes
$session->query_safe(q{BEGIN; SELECT fleet.run_parent_package('outer')});
$f->sql(q{SELECT fleet.run_parent_package('fails', run_key => 'other')});
purged(q{SELECT fleet.purge(older_than => '0')}, 'purged while a request is not committed');
$session->query_safe('COMMIT');
$f->run_is($f->sql(q{SELECT max(run_id) FROM fleet.run WHERE package = 'outer'}), 'succeeded', 'its document is there');
$f->sql(q{UPDATE fleet_catalog.duration SET seen_at = seen_at - interval '91 days' WHERE task = 'a'});
my $learned = $f->sql(q{SELECT string_agg(DISTINCT task, ' ' ORDER BY task) FROM fleet_catalog.duration});
like($learned, qr/^a /, 'something was learned');
$f->sql('SELECT fleet.purge()');
$f->wait_for('parent', q{SELECT count(*) FROM fleet_catalog.duration WHERE task = 'a'}, '0', 'what was learned of work that does not come any more is forgotten');
is($f->sql(q{SELECT count(*) FROM fleet_catalog.duration WHERE task = 'd'}), '1', 'and nothing else');

# ---- ends and errors ---------------------------------------------------------------------------

$run = ran('outer');
$pid = $f->agent_pid;
$f->point('parent', 'agent_purge', 'error 3');
$f->sql(q{SELECT fleet.purge(older_than => '0')});
$f->point_fired('parent', 'agent_purge', 'a slice raises an error');
$f->run_is($f->start('fails'), 'failed', 'an error in a purge is the purge\'s alone');
is($f->agent_pid, $pid, 'and not the end of the agent');
like(slurp_file($f->parent->logfile), qr/history could not be purged: test point "agent_purge"/, 'it is told in the log');
$f->point('parent', 'agent_purge', 'exit 3');
$f->sql(q{SELECT fleet.purge(older_than => '0')});
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', 'an agent ends in the middle of a purge');
purged(q{SELECT fleet.purge(older_than => '0')}, 'the next one');
is($f->sql('SELECT count(*) FROM fleet.run'), '0', 'comes to its end');
my @all = split /\n/, $f->sql(q{SELECT DISTINCT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'fleet_catalog'::regnamespace AND c.relkind = 'r' AND a.attname IN ('run_id', 'job_run_id')});
cmp_ok(scalar @all, '>', scalar @tables, 'all tables that say of which run or job run a row is');
is($f->sql('SELECT ' . join ' + ', map { "(SELECT count(*) FROM fleet_catalog.$_" . ($_ eq 'event' ? ' WHERE run_id IS NOT NULL' : '') . ')' } @all), '0', 'have nothing left');
$session->quit;

$f->done;
