# Rows that tell the truth: whatever becomes of a task run, none of its steps stays open, its log has no gap, and the reason is
# in the task run, in the step that was under way, and once in the log.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, delays => 0);

$f->job('hold', 'SELECT etl.work_until_released()');
$f->job('outside', { sql => 'SELECT etl.work_until_released()', transactional => 'false' });
my @three = (
    here => { sql => 'SELECT etl.work_until_released()' },
    agent => { job => 'hold', server => 'a1' },
    direct => { job => 'outside', server => 'd1' });
$f->package('three', -params => '{"key": null}', @three);

sub whole
{
    my ($run, $name) = @_;
    is($f->sql("SELECT count(*) FROM fleet.step_run WHERE run_id = $run AND (finished_at IS NULL OR state IN ('starting', 'running'))"), '0', "$name: no step is open");
    is($f->sql("SELECT count(*) FROM (SELECT 1 FROM fleet.log WHERE run_id = $run GROUP BY task, item HAVING count(*) <> max(seq) OR count(*) <> count(DISTINCT seq)) AS l"), '0',
        "$name: the log has no gap, and no number twice");
    return;
}

# ---- an agent that cannot take up what its predecessor had begun --------------------------------

my $run = $f->start('three', '{"key": "taken up"}');
$f->wait_started('taken up', 3);
$f->wait_for('parent', "SELECT count(*) FROM fleet.job_log WHERE run_id = $run AND state = 'running'", '3', 'taken up: three steps run');
$f->point('parent', "work_recover.$run", 'poison');
$f->sql('SELECT pg_terminate_backend(' . $f->agent_pid . ')');
$f->run_is($run, 'failed', 'taken up: the next agent cannot, and the run fails');
$f->point_release('parent', "work_recover.$run");
is($f->sql("SELECT string_agg(task || ' ' || state || ' ' || sqlstate || ' ' || message, '; ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run"),
    join('; ', map { qq($_ failed XX000 test point "work_recover") } qw(here agent direct)), 'taken up: each task says why');
is($f->sql("SELECT string_agg(task || ' ' || state || ' ' || sqlstate || ' ' || message, '; ' ORDER BY task) FROM fleet.job_log WHERE run_id = $run"),
    join('; ', map { qq($_ lost XX000 test point "work_recover") } qw(agent direct here)), 'taken up: so does each step, which is lost');
is($f->sql("SELECT string_agg(task || ' ' || message, '; ' ORDER BY task) FROM fleet.log WHERE run_id = $run AND level = 'ERROR'"),
    join('; ', map { qq($_ test point "work_recover") } qw(agent direct here)), 'taken up: and the log, once');
whole($run, 'taken up');
$f->release('taken up');
$f->wait_for('a1', q{SELECT count(*) FROM fleet.job_run WHERE finished_at IS NULL}, '0', 'taken up: what goes on at its server ends there');

# ---- what cannot begin --------------------------------------------------------------------------

# The role of a step cannot log in: here, and over there.
$f->sql(q{CREATE ROLE closed NOLOGIN; GRANT closed TO etl});
$f->sql(q{SET ROLE closed; SELECT fleet.create_package('closed'); SELECT fleet.add_task('closed', 't', sql => 'SELECT 1'); RESET ROLE});
$run = $f->sql(q{SELECT fleet.run_parent_package('closed')});
$f->run_is($run, 'failed', 'login: a role that cannot log in');
my $why = '28000 role "closed" is not permitted to log in';
is($f->sql("SELECT t.state || ' ' || t.sqlstate || ' ' || t.message FROM fleet.task_run AS t WHERE run_id = $run"), "failed $why", 'login: the task says why');
is($f->sql("SELECT state || ' ' || sqlstate || ' ' || message FROM fleet.job_log WHERE run_id = $run"), "failed $why", 'login: so does its step');
is($f->sql("SELECT string_agg(sqlstate || ' ' || message, '; ') FROM fleet.log WHERE run_id = $run AND level = 'ERROR'"), $why, 'login: and the log, once');
whole($run, 'login');

# A for_each, a condition, a job that is not there.
$f->package('for_each', t => { sql => 'SELECT 1', for_each => 'SELECT 1 / 0 AS n' });
$f->package('condition', a => { sql => 'SELECT 1' }, b => { sql => 'SELECT 2' });
$f->sql(q{SELECT fleet.add_precedence('condition', 'a', 'b', condition => '1 / 0 = 1')});
$f->package('missing', t => { job => 'nowhere', server => 'a1' });
my %why = (
    for_each => [ 't', 'F0001', 'division by zero' ],
    condition => [ 'b', 'F0001', 'division by zero' ],
    missing => [ 't', '42704', 'nowhere' ]);
for my $package (sort keys %why)
{
    my ($task, $sqlstate, $like) = @{ $why{$package} };
    $run = $f->start($package);
    $f->run_is($run, 'failed', "$package: its run fails");
    like($f->sql("SELECT state || ' ' || sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $run AND task = '$task'"), qr/^failed $sqlstate .*$like/, "$package: the task says why");
    like($f->sql("SELECT string_agg(sqlstate || ' ' || message, '; ') FROM fleet.log WHERE run_id = $run AND level = 'ERROR'"), qr/^$sqlstate [^;]*$like[^;]*$/, "$package: and the log, once");
    whole($run, $package);
}

# ---- publications of all tables, when rows go -----------------------------------------------------

$f->sql(q{ALTER SYSTEM SET wal_level = logical});
$f->forget('parent');
$f->parent->restart;
$f->sql(q{CREATE PUBLICATION everything FOR ALL TABLES});
$f->sql('INSERT INTO fleet_catalog.cancel_request (run_id) VALUES (' . $run . ')');
$f->sql("DELETE FROM fleet_catalog.$_ WHERE run_id = $run") for qw(log_line cancel_request step_run task_run);
is($f->sql("SELECT count(*) FROM fleet.log WHERE run_id = $run"), '0', 'publication: rows of history can go');

$f->done;
