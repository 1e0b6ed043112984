# What happens at a server of mode agent while it has work: the same job is deployed to it twice at once, it has no worker
# for a step, its extension or its whole database is dropped.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, delays => 0);
my $port = $f->node('a1')->port;

# ---- one job, deployed at once ------------------------------------------------------------------

# Eight servers that are one database, and another parent.
my $server = q{SELECT fleet.add_server('%s', '} . $f->conninfo('a1') . "', username => 'etl', password => '$FleetTest::PASSWORD', groups => '{same}')";
$f->sql(sprintf $server, "same$_") for 1 .. 8;
$f->parent->safe_psql('postgres', 'CREATE DATABASE second');
my $second = sub { return $f->parent->safe_psql('second', $_[0]); };
my $define = q{SELECT fleet.create_package('inside'); SELECT fleet.add_task('inside', 't', sql => 'SELECT 1'); SELECT fleet.create_job('twice'); SELECT fleet.add_step('twice', 's', package => 'inside')};
$second->('CREATE EXTENSION pg_fleet; ' . sprintf($server, 'same') . '; ' . $define);
$f->sql($define);
my $deployed = q{SELECT string_agg(DISTINCT state || coalesce(': ' || message, ''), '; ') FROM fleet.deployment WHERE job = 'twice'};
for my $round (1 .. 5)
{
    $f->sql(q{SELECT fleet.deploy_job('twice', on_group => 'same', replace => true)});
    $second->(q{SELECT fleet.deploy_job('twice', on_group => 'same', replace => true)});
    $f->wait_for('parent', q{SELECT count(*) FROM fleet.deployment WHERE job = 'twice' AND state = 'queued'}, '0', "deployed at once, $round: each has an outcome");
    $f->wait_for_in('parent', 'second', q{SELECT count(*) FROM fleet.deployment WHERE state = 'queued'}, '0', "deployed at once, $round: the other parent's too");
    is($f->sql($deployed), 'deployed', "deployed at once, $round: all eight are there");
    is($second->($deployed), 'deployed', "deployed at once, $round: the other parent's too");
    $f->sql_on('a1', q{SET ROLE etl; SELECT fleet.drop_job('twice'); SELECT fleet.drop_package('inside')});
}
$second->('DROP EXTENSION pg_fleet CASCADE');
$f->forget('parent');
$f->parent->safe_psql('postgres', 'DROP DATABASE second');

# ---- no worker for a step -----------------------------------------------------------------------

$f->job('hold', 'SELECT etl.work_until_released()');
$f->job('outside', { sql => 'SELECT etl.work()', transactional => 'false' });
$f->package('hold', -params => '{"key": null}', t => { job => 'hold', server => 'a1' });
$f->package('outside', -params => '{"key": null}', t => { job => 'outside', server => 'a1' });
$f->sql_on('a1', q{ALTER SYSTEM SET fleet.max_runners = 1});
$f->sql_on('a1', q{SELECT pg_reload_conf()});
$f->wait_for('a1', q{SELECT setting FROM pg_settings WHERE name = 'fleet.max_runners'}, '1', 'no worker: the server may have one runner');
my $first = $f->start('hold', '{"key": "first"}');
$f->wait_started('first');
my $why = 'all runners are busy (fleet.max_runners)';
for my $package (qw(hold outside))
{
    my $run = $f->start($package, qq({"key": "waits $package"}));
    my $job = "job_run WHERE params ->> 'key' = 'waits $package'";
    $f->wait_for('a1', "SELECT state || ': ' || message FROM fleet.$job", "queued: $why", "no worker, $package: its job run is queued, and says why");
    $f->wait_for('parent', "SELECT message FROM fleet.task_run WHERE run_id = $run", $why, "no worker, $package: the parent shows it");
    is($f->sql_on('a1', "SELECT count(*) FROM fleet.step_run WHERE job_run_id = (SELECT job_run_id FROM fleet.$job)"), '0', "no worker, $package: no step is said to start");
    # a new agent over there does not take it for begun
    my ($agent) = $f->workers('a1', 'agent');
    $f->sql_on('a1', "SELECT pg_terminate_backend($agent)");
    $f->wait_for('a1', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND pid <> $agent", '1', "no worker, $package: another agent comes there");
    $f->sql("SELECT fleet.cancel_run($run)");
    $f->run_is($run, 'canceled', "no worker, $package: it can be canceled");
    is($f->witnessed("waits $package", 'start'), '0', "no worker, $package: it was never begun");
}
my $run = $f->start('outside', '{"key": "goes on"}');
$f->wait_for('parent', "SELECT message FROM fleet.task_run WHERE run_id = $run", $why, 'no worker: one more waits');
$f->release('first');
$f->run_is($first, 'succeeded', 'no worker: what has the worker ends');
$f->run_is($run, 'succeeded', 'no worker: what waited for it begins then');
is($f->sql("SELECT message IS NULL FROM fleet.task_run WHERE run_id = $run"), 't', 'no worker: and no longer says that it waits');
is($f->sql_on('a1', q{SELECT message IS NULL FROM fleet.job_run WHERE params ->> 'key' = 'goes on'}), 't', 'no worker: nor at the server');
is($f->effects('a1', 'goes on'), '1', 'no worker: its effect is there once');
$f->sql_on('a1', q{ALTER SYSTEM RESET fleet.max_runners});
$f->sql_on('a1', q{SELECT pg_reload_conf()});

# ---- the extension, or the database, is dropped there while it has work -------------------------

$f->job('outside hold', { sql => 'SELECT etl.work_until_released()', transactional => 'false' });
$f->package('drop', -params => '{"key": null}',
    runs => { job => 'hold', server => 'a1' },
    stops => { job => 'hold', server => 'a1', params => '{"key": "stops"}' });
$f->package('stops', -params => '{"key": null}', t => { job => 'hold', server => 'a1' });
$run = $f->start('hold', '{"key": "dropped"}');
my $stops = $f->start('stops', '{"key": "stopped"}');
$f->wait_started($_) for qw(dropped stopped);
$f->wait_for('parent', "SELECT count(*) FROM fleet.job_log WHERE run_id IN ($run, $stops) AND state = 'running'", '2', 'extension dropped: two steps run');
# its agent hears of the cancel no more
$f->point('a1', 'agent_before_messages', 'wait');
$f->sql("SELECT fleet.cancel_run($stops)");
$f->point_waits('a1', 'agent_before_messages', 'extension dropped: a cancel is in flight');
my ($agent) = $f->workers('a1', 'agent');
my $drop = $f->node('a1')->background_psql($FleetTest::DB);
$drop->query_until(qr/^/, "DROP EXTENSION pg_fleet CASCADE;\n");
$f->wait_for('a1', q{SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'}, '1', 'extension dropped: the drop waits for the agent');
$f->point_release('a1', 'agent_before_messages');
$drop->quit;
is($f->sql_on('a1', q{SELECT count(*) FROM pg_extension WHERE extname = 'pg_fleet'}), '0', 'extension dropped: it is gone');
$f->run_is($run, 'failed', 'extension dropped: the run ends');
is($f->sql("SELECT state || ' ' || sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $run"),
    'lost 3F000 pg_fleet is not installed in that database, or is too old: the extension was dropped', 'extension dropped: its task is lost, and says why');
is($f->sql("SELECT string_agg(state || ' ' || sqlstate, ', ') FROM fleet.job_log WHERE run_id = $run"), 'lost 3F000', 'extension dropped: so is its step');
is($f->sql("SELECT string_agg(level || ' ' || sqlstate, ', ') FROM fleet.log WHERE run_id = $run AND level = 'ERROR'"), 'ERROR 3F000', 'extension dropped: the log has one line of it');
$f->run_is($stops, 'canceled', 'extension dropped: what was being stopped has stopped');
is($f->sql("SELECT string_agg(state, ', ') FROM fleet.job_log WHERE run_id = $stops"), 'canceled', 'extension dropped: its step too');
is($f->effects('a1', 'dropped') . $f->effects('a1', 'stopped'), '00', 'extension dropped: nothing of them has an effect');

# A database that is gone is one that is not there: it is waited for, as a server that does not answer.
$f->sql(q{ALTER SYSTEM SET fleet.lost_after = '3s'});
$f->sql(q{SELECT pg_reload_conf()});
$f->sql_on('a1', 'CREATE EXTENSION pg_fleet');
$f->deploy($_) for 'hold', 'outside hold';
my %task = (agent => [ 'hold', 'a1' ], direct => [ 'hold', 'd1' ], outside => [ 'outside hold', 'd1' ]);
$f->package("gone $_", -params => '{"key": null}', t => { job => $task{$_}[0], server => $task{$_}[1] }) for sort keys %task;
my %gone = map { $_ => $f->start("gone $_", qq({"key": "gone $_"})) } sort keys %task;
$f->wait_started("gone $_") for sort keys %task;
$f->wait_for('parent', 'SELECT count(*) FROM fleet.job_log WHERE run_id IN (' . join(',', values %gone) . q{) AND state = 'running'}, '3', 'database dropped: three steps run');
$f->forget($_) for qw(a1 d1);
$f->node($_)->safe_psql('postgres', "DROP DATABASE $FleetTest::DB WITH (FORCE)") for qw(a1 d1);
my %ends = (
    agent   => 'lost 08006 its server did not come back within fleet.lost_after: .*database "dw" does not exist',
    direct  => 'failed 3D000 ',
    outside => 'unknown 57P01 ',
);
for my $task (sort keys %task)
{
    $f->run_is($gone{$task}, 'failed', "database dropped, $task: its run ends");
    like($f->sql("SELECT state || ' ' || sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $gone{$task}"), qr/^$ends{$task}/, "database dropped, $task: … and says why");
    is($f->sql("SELECT count(*) FROM fleet.job_log WHERE run_id = $gone{$task} AND finished_at IS NULL"), '0', "database dropped, $task: no step is open");
    is($f->sql("SELECT count(*) FROM fleet.log WHERE run_id = $gone{$task} AND level = 'ERROR'"), '1', "database dropped, $task: the log has one line of it");
}

# Something to look at for the end of every suite.
$f->node($_)->safe_psql('postgres', "CREATE DATABASE $FleetTest::DB") for qw(a1 d1);
$f->sql_on('a1', 'CREATE EXTENSION pg_fleet');
$f->done;
